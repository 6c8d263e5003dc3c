//! The binary: parse the arguments, call [`scenario::cli`], return its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    scenario::cli::main(std::env::args_os())
}
