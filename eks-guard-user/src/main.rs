//! The `eks-guard` program: arguments, logging, run, exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use eks_guard::cli::{Cli, Command, completion};
use eks_guard::config::{RunArgs, RunConfig, Surroundings, exit};
use eks_guard::node::proxy_process;
use eks_guard::recording::sessions::{self, SessionsArgs};
use eks_guard::recording::writer::DEFAULT_FOLDER;
use eks_guard::telemetry::{self, Colour, say};
use eks_guard::{app, probe, run};
use jiff::Timestamp;

fn main() -> ExitCode {
    // The inner processes come first: they have no terminal, no environment and no arguments to look at.
    let inner = std::env::args_os().nth(1).and_then(|first| {
        run::inner_process(&first)
            .or_else(|| probe::inner_process(&first))
            .or_else(|| proxy_process::inner_process(&first))
    });
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
        Command::Node(args) => written(args.run(&around, &mut io::stdout().lock())),
        Command::Policy(args) => {
            let operator = around.kubeconfig();
            written(args.run(&operator, &mut io::stdout().lock(), &mut io::stderr()))
        }
        Command::Sessions(args) => sessions(args, &around),
        Command::Verify(args) => written(args.run(&around, &mut io::stdout().lock(), Timestamp::now())),
        Command::Completion(args) => {
            let script = completion::script(args.shell);
            written(io::stdout().write_all(&script).map(|()| 0))
        }
    })
}

/// The exit code of a command whose output may not have been written. That is never 0, which would say "allowed".
fn written(outcome: io::Result<u8>) -> u8 {
    outcome.unwrap_or_else(|error| {
        // A reader that has gone, as `head` goes, has seen enough.
        if error.kind() != io::ErrorKind::BrokenPipe {
            say(&format!("cannot write the output: {error}"));
        }
        exit::USAGE
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
