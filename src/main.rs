//! `ofop`: the library's command line, and nothing else.

use std::process::ExitCode;

/// A daemon reads long lists again and again beside what it keeps: the C library's allocator takes a third more time for
/// that and gives less back (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ofop::cli::main(std::env::args_os())
}
