"""Ray and Tune: the only room that drives them, so another scheduler replaces this folder."""
