//! Conditions in CEL: the guard and the evaluator of Kubernetes are asked about the tests of CEL's specification and about
//! generated expressions. Whatever the guard has an answer to, it is Kubernetes' own.

#![allow(
    clippy::print_stdout,
    reason = "what the guard alone does not answer is told by reason"
)]

use std::{env, fs};

use anyhow::{Context, Result, ensure};
use rig::conditions::known::REASONS;
use rig::conditions::situation::Situation;
use rig::conditions::{Agreement, Tally, compare, generate, is, kubernetes};
use rig::programs::workspace;

/// So many generated expressions, unless `EKS_GUARD_CONDITIONS_SEED` asks for others.
const EXPRESSIONS: u64 = 4000;
const SEED: u64 = 1;

/// Nothing but what is known and documented, and no more than so many in a hundred that only Kubernetes answers.
fn agreed(tally: &Tally, refused: usize) -> Result<()> {
    println!("{tally}");
    ensure!(tally.disagreements.is_empty(), "{tally}");
    ensure!(tally.refused() * 100 <= tally.asked() * refused, "{tally}");
    ensure!(tally.same * 2 > tally.asked(), "{tally}");
    Ok(())
}

#[test]
fn the_tests_of_the_specification_come_out_as_in_kubernetes() -> Result<()> {
    let tests = kubernetes::conformance()?;
    ensure!(tests.len() > 1500, "the specification has {} tests", tests.len());
    let expressions: Vec<String> = tests.into_iter().map(|it| it.expression).collect();
    agreed(&compare(&expressions)?, 15)
}

#[test]
fn the_guard_answers_as_the_specification_wants() -> Result<()> {
    let situation = Situation::new();
    let mut same = 0;
    for test in kubernetes::conformance()? {
        let Some(value) = &test.value else { continue };
        match is(&test.expression, value, &situation)? {
            Agreement::Same => same += 1,
            // Most of these ask for extensions that Kubernetes does not have either.
            Agreement::OnlyKubernetes(_) => {}
            other @ (Agreement::Neither | Agreement::OnlyGuard(_) | Agreement::Differs(_)) => {
                ensure!(false, "{}: wanted {value}, and {other:?}", test.expression)
            }
        }
    }
    ensure!(same > 1000, "{same} tests come out as wanted");
    Ok(())
}

#[test]
fn generated_expressions_come_out_as_in_kubernetes() -> Result<()> {
    let seed = match env::var_os("EKS_GUARD_CONDITIONS_SEED") {
        Some(seed) => seed.to_str().context("a seed is a number")?.parse()?,
        None => SEED,
    };
    let expressions: Vec<String> = (0..EXPRESSIONS)
        .map(|number| generate::expression(seed, number))
        .collect();
    let tally = compare(&expressions).with_context(|| format!("seed {seed}"))?;
    agreed(&tally, 5).with_context(|| format!("seed {seed}"))
}

#[test]
fn every_reason_to_have_no_answer_is_documented() -> Result<()> {
    let page = fs::read_to_string(workspace().join("docs/policy.md")).context("reading docs/policy.md")?;
    for reason in REASONS {
        ensure!(
            page.contains(reason.documented),
            "docs/policy.md says nothing of: {}",
            reason.documented
        );
    }
    Ok(())
}
