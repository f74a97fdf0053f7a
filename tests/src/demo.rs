//! `testbed demo`: the whole way of a few pods, told as it happens.
