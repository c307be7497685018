//! One suite for every way to a disk.
