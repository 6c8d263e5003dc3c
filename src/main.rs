//! The binary; the command line comes later.

fn main() {}
