//! Tests of the lane thread.
