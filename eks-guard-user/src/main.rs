//! The `eks-guard` program: arguments, logging, run, exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use eks_guard::cli::{Cli, Command};
use eks_guard::config::{RunArgs, RunConfig, Surroundings, exit};
use eks_guard::recording::sessions::{self, SessionsArgs};
use eks_guard::recording::writer::DEFAULT_FOLDER;
use eks_guard::telemetry::{self, Colour, say};
use eks_guard::{app, run};
use jiff::Timestamp;

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
        // An output that cannot be written has nobody who reads it.
        Command::Policy(args) => args
            .run(&mut io::stdout().lock(), &mut io::stderr())
            .unwrap_or(exit::USAGE),
        Command::Sessions(args) => sessions(args, &around),
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

fn sessions(mut args: SessionsArgs, around: &Surroundings) -> u8 {
    if args.records == Path::new(DEFAULT_FOLDER) {
        args.records = around.records();
    }
    match sessions::run(
        &args,
        &mut io::stdout().lock(),
        &mut io::stderr(),
        Timestamp::now(),
    ) {
        Ok(()) => 0,
        // As `head` does it: whoever reads has seen enough.
        Err(error) if error.is_broken_pipe() => 0,
        Err(error) => {
            say(&telemetry::chain(&error));
            exit::USAGE
        }
    }
}
