//! `eks-guard completion`: scripts that complete subcommands, flags and file names.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;

const EXAMPLES: &str = "\
Examples:
  eks-guard completion bash > ~/.local/share/bash-completion/completions/eks-guard
  eks-guard completion zsh > ~/.zfunc/_eks-guard       (~/.zfunc on $fpath, before compinit)
  eks-guard completion fish > ~/.config/fish/completions/eks-guard.fish";

/// Arguments of `eks-guard completion`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionArgs {
    /// For which shell
    pub shell: Shell,
}

/// The script.
#[must_use]
pub fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "eks-guard", &mut script);
    if shell != Shell::Bash {
        return script;
    }
    // The generator names the subcommands of a program with a hyphen in two ways, and the one never finds the other.
    let script = String::from_utf8_lossy(&script).replace("eks__subcmd__guard", "eks__guard");
    script.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use clap::ValueEnum;
    use clap_complete::Shell;

    use crate::cli::completion::script;

    /// What bash offers for the last word of `line`.
    fn offered(line: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        fs::write(&file, script(Shell::Bash)).unwrap();
        let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                   ask=$(complete -p eks-guard); ask=${ask#*-F }; \
                   \"${ask%% *}\" eks-guard \"${@: -1}\" \"${@: -2:1}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let output = Command::new("bash")
            .args(["--norc", "-c", ask, "bash"])
            .arg(&file)
            .args(line)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_at_every_depth() {
        let table: &[(&[&str], &[&str])] = &[
            (&["eks-guard", "po"], &["policy"]),
            (&["eks-guard", "policy", ""], &["check", "explain"]),
            (&["eks-guard", "policy", "explain", "--"], &["--policy", "--as"]),
            (&["eks-guard", "sessions", "s"], &["show"]),
            (&["eks-guard", "sessions", "show", "-o", ""], &["table", "jsonl"]),
            (&["eks-guard", "run", "--ag"], &["--agent"]),
            (&["eks-guard", "verify", "--"], &["--run", "--check", "--report"]),
            (&["eks-guard", "completion", "ba"], &["bash"]),
        ];
        for (line, wanted) in table {
            let offered = offered(line);
            for word in *wanted {
                assert!(
                    offered.iter().any(|found| found == word),
                    "{line:?}: {word} is not in {offered:?}"
                );
            }
        }
    }

    #[test]
    fn there_is_a_script_for_every_shell() {
        for shell in Shell::value_variants() {
            assert!(script(*shell).len() > 1000, "{shell}");
        }
    }
}
