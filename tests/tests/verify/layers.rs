//! `eks-guard verify --node` beside a daemon that lacks layers: it fails, names the layer, and the rows that nothing else closes.

use anyhow::{Context, Result, ensure};
use eks_guard::node::filter::{Filter, Raw, Wanted};
use eks_guard_core::catalogue::report::Report;
use rig::node::{Layout, NodeRig, Pod, shared};
use rig::wait;

use crate::displaced;
use crate::guard::{Guard, row};
use crate::pods::{agent, container, report_of};

/// TCP to the API server, in several forms.
const TCP: [&str; 4] = ["N01", "N03", "N06", "N20"];
/// What the connect hooks do not see.
const NOT_CONNECTED: [&str; 3] = ["N10", "N11", "P01"];
/// What only the wire sees, and the packet filter behind it.
const BY_HAND: [&str; 5] = ["P02", "P03", "P04", "N17", "N18"];

/// What is expected of one report.
struct Expected<'e> {
    profile: &'e str,
    /// Parts of what is said of layers.
    lost: &'e [&'e str],
    reached: &'e [&'e str],
    redirected: &'e [&'e str],
}

fn verify(guard: &mut Guard<'_>, expected: &Expected<'_>) -> Result<()> {
    let is_known = |status: &serde_json::Value| {
        let lost = status["lost"].to_string();
        expected.lost.iter().all(|layer| lost.contains(layer))
    };
    guard.wait_until("the daemon misses the layer", is_known)?;
    let words = ["verify", "--node", "--profile", expected.profile, "-o", "json"];
    let output = guard.on_the_node(&words)?;
    let report = report_of(&output.stdout).with_context(|| format!("{output:?}"))?;
    ensure!(output.code == 1, "exit code {}\n{}", output.code, output.stderr);
    for layer in expected.lost {
        let is_it = |line: &str| line.contains("layer lost: ") && line.contains(layer);
        ensure!(output.stderr.lines().any(is_it), "{layer}: {}", output.stderr);
    }
    for (id, expected) in of("REACHED", expected.reached).chain(of("REDIRECTED", expected.redirected)) {
        let found = word(&report, id)?;
        ensure!(found == expected, "{id}: {found}\n{}", output.stderr);
        let is_named = output.stderr.contains(&format!(" {id} reached: "));
        ensure!(is_named == (expected == "REACHED"), "{id}: {}", output.stderr);
    }
    let others = report.profiles[0].rows.iter();
    let others: Vec<&str> = others
        .filter(|row| row.result.word() == "REACHED")
        .map(|row| row.id.as_str())
        .collect();
    ensure!(
        !expected.reached.is_empty() || others.is_empty(),
        "other layers hold, but {others:?} were reached"
    );
    Ok(())
}

fn of<'e>(word: &'static str, ids: &'e [&'e str]) -> impl Iterator<Item = (&'e str, &'static str)> {
    ids.iter().map(move |id| (*id, word))
}

fn word<'r>(report: &'r Report, id: &str) -> Result<&'r str> {
    let rows = report.profiles.iter().flat_map(|profile| &profile.rows);
    let row = rows
        .into_iter()
        .find(|row| row.id == id)
        .context("a row is missing")?;
    Ok(row.result.word())
}

fn is_whole(guard: &mut Guard<'_>, pod: &Pod<'_>) -> Result<()> {
    guard.serve(pod)?;
    let is_wired = |status: &serde_json::Value| {
        row(status, pod.uid()).is_some_and(|row| row["interfaces"] != serde_json::json!([]))
    };
    guard.wait_until("the agent is guarded", is_wired)?;
    Ok(())
}

/// What stood in the places of programs is gone, and they are back in them.
fn are_back(guard: &mut Guard<'_>, programs: &[&str]) -> Result<()> {
    let is_back = |status: &serde_json::Value| {
        let lost = status["lost"].to_string();
        programs
            .iter()
            .all(|program| !lost.contains(&format!("program {program}")))
    };
    guard.wait_until("the programs are back", is_back)?;
    Ok(())
}

/// Owns the table that the next daemon would make. The last one's stays when it is killed, for whoever takes it.
fn take_table(rig: &NodeRig, guard: &Guard<'_>) -> Result<Filter> {
    let table = guard.table();
    let mut taken = None;
    wait::until("the table is taken", || {
        let filter = rig.network().node.enter(|| {
            let mut filter = Filter::open(&table, Raw::LeftToPrograms)?;
            filter.close(&Wanted::default())?;
            Ok(filter)
        });
        taken = filter.ok();
        Ok(taken.is_some())
    })?;
    taken.context("the table is another's")
}

#[test]
fn a_lost_layer_fails_the_report_and_rows_that_nothing_else_closes_are_reached() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[1], "layers");
    rig.cluster().create_namespace(namespace)?;
    let pod = rig.run_pod(&agent(rig, layout, namespace, "agent"))?;
    let _main = container(rig, &pod)?;
    let root = rig.cgroups().join(layout.kubepods());
    let cable = pod.sandbox().context("no network of its own")?.cable().to_owned();
    let node = &rig.network().node;
    let mut guard = Guard::start(rig, layout)?;
    is_whole(&mut guard, &pod)?;

    // One at a time: another layer stands behind each.
    {
        // It writes the flow entries, too: without it the guard answers nobody.
        let _out = displaced::programs(&guard, &root, &["egress"])?;
        let expected = Expected {
            profile: "restricted",
            lost: &["program egress"],
            reached: &[],
            redirected: &[],
        };
        verify(&mut guard, &expected)?;
    }
    {
        let _out = displaced::wire(node, &cable)?;
        let expected = Expected {
            profile: "+NET_RAW",
            lost: &["program wire"],
            reached: &[],
            redirected: &TCP,
        };
        verify(&mut guard, &expected)?;
    }

    // The packet filter belongs to somebody else from here on.
    guard.kill()?;
    let _table = take_table(rig, &guard)?;
    guard.restart()?;
    is_whole(&mut guard, &pod)?;
    let _wire = displaced::wire(node, &cable)?;
    let expected = Expected {
        profile: "+NET_RAW",
        lost: &["program wire", "nftables table"],
        reached: &BY_HAND,
        redirected: &TCP,
    };
    verify(&mut guard, &expected)?;
    {
        let hooks = ["sendmsg4", "sendmsg6", "sock_create", "egress"];
        let out = displaced::programs(&guard, &root, &hooks)?;
        let expected = Expected {
            profile: "+NET_RAW",
            lost: &["program sendmsg4", "program sock_create", "program egress"],
            reached: &NOT_CONNECTED,
            redirected: &[],
        };
        verify(&mut guard, &expected)?;
        drop(out);
        are_back(&mut guard, &hooks)?;
    }
    let _out = displaced::programs(&guard, &root, &["connect4", "connect6", "egress"])?;
    let expected = Expected {
        profile: "restricted",
        lost: &["program connect4", "program egress", "program wire"],
        reached: &TCP,
        redirected: &[],
    };
    verify(&mut guard, &expected)
}
