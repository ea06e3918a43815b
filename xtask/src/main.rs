//! Every automation of the project, one subcommand a file.
fn main() {}
