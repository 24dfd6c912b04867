//! `ofop`: the library's command line, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ofop::cli::main(std::env::args_os())
}
