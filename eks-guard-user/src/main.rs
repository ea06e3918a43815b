//! The `eks-guard` program: arguments, logging, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let inner = std::env::args_os()
        .nth(1)
        .and_then(|first| eks_guard::run::inner_process(&first));
    if let Some(code) = inner {
        return code;
    }
    ExitCode::SUCCESS
}
