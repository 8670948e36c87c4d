"""Pure functions of numbers: tests, intervals, corrections, power, sequential designs; imports nothing of ours."""
