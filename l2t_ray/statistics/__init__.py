"""Pure functions of numbers: tests, intervals, corrections, power, sequential designs; imports no other room."""
