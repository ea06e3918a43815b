//! The first process of a guest of the kernel matrix (`rig::vm`); of no use anywhere else.

use std::process::ExitCode;

fn main() -> ExitCode {
    match rig::vm::guest::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "standard error is the console of the guest")]
            {
                eprintln!("guest-init: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
