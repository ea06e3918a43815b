//! The `eks-guard` program: arguments, logging, run, exit code.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use eks_guard::cli::{Cli, Command, RunArgs, exit};
use eks_guard::config::{RunConfig, Surroundings};
use eks_guard::telemetry::{self, Colour, say};
use eks_guard::{app, run};

fn main() -> ExitCode {
    // The inner processes of a run come first: they have no terminal, no environment and no arguments to look at.
    let inner = std::env::args_os()
        .nth(1)
        .and_then(|first| run::inner_process(&first));
    if let Some(code) = inner {
        return code;
    }
    let cli = Cli::parse();
    let around = Surroundings::take();
    let colour = Colour::for_stderr(around.variable("NO_COLOR").is_some());
    let filter = around
        .variable("EKS_GUARD_LOG")
        .map(|filter| filter.to_string_lossy().into_owned());
    if let Err(problem) = telemetry::init(filter.as_deref(), colour) {
        say(&format!("cannot set up logging: {problem}"));
        return ExitCode::from(exit::USAGE);
    }
    ExitCode::from(match cli.command {
        Command::Run(args) => start(args, &around),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "eks-guard", &mut io::stdout());
            0
        }
    })
}

fn start(args: RunArgs, around: &Surroundings) -> u8 {
    match RunConfig::check(args, around) {
        Ok(config) => app::run(config),
        Err(error) => {
            error.problems.iter().for_each(|problem| say(problem));
            error.code
        }
    }
}
