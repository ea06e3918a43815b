//! Bad input and failure at the start of `eks-guard run`: one clear line that names cause and remedy, the documented exit
//! code, nothing left behind. Needs root: some of it fails only after eBPF and cgroups were used.

#[path = "errors/attempt.rs"]
mod attempt;
#[path = "errors/command.rs"]
mod command;
#[path = "errors/machine.rs"]
mod machine;
#[path = "errors/operator.rs"]
mod operator;
#[path = "errors/upstream.rs"]
mod upstream;
