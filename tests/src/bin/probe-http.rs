//! A client without manners, to be run as the guarded command: orders come in on standard input, one JSON line each, and
//! every one is answered with one line. `rig::probe` has the orders and gives them.

use std::process::ExitCode;

fn main() -> ExitCode {
    match rig::probe::relay::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "standard error is all a guarded command has to complain"
            )]
            {
                eprintln!("probe-http: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
