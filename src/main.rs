//! `ofop`.

fn main() {}
