//! The columns of the matrix that guests bring: recorded for whoever prints them, and compared with the page.

use anyhow::{Result, ensure};
use rig::matrix::page::{self, OtherKernel};
use rig::matrix::{self, Column};

/// Tests that bring columns, and how many.
const BROUGHT: [(&str, usize); 2] = [
    (
        "pods::every_route_is_closed_under_every_profile_and_the_page_says_so",
        5,
    ),
    (
        "run::every_route_is_closed_under_every_profile_and_the_page_says_so",
        2,
    ),
];

/// How many columns come of these tests.
pub(crate) fn expected(tests: &[&str]) -> usize {
    let brought = BROUGHT.iter().filter(|(test, _)| tests.contains(test));
    brought.map(|(_, columns)| columns).sum()
}

/// The page says what the guests have found.
pub(crate) fn check(lines: &[String], expected: usize) -> Result<()> {
    let columns = lines
        .iter()
        .map(|line| Column::read(line))
        .collect::<Result<Vec<Column>>>()?;
    matrix::record("kernels", &columns)?;
    ensure!(
        columns.len() == expected,
        "the guests brought {} columns of {expected}",
        columns.len()
    );
    page::is_up_to_date("kernels", &columns, OtherKernel::Missed)
}
