//! Which room of a crate imports which. No cycles; adapters do not import each other; nothing imports what starts the program.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::Finding;
use crate::tidy::text::Workspace;

const CRATES: [&str; 2] = ["eks-guard-core", "eks-guard-user"];

/// What adapters may import, and what imports none of the others.
const BELOW_ADAPTERS: [&str; 1] = ["output"];

/// What joins the adapters, from the lowest up. A module not named here is an adapter, and lies below all of them.
const ABOVE_ADAPTERS: [&str; 10] = [
    "proxy", "testing", "fleet", "policy", "config", "app", "node", "verify", "cli", "main",
];

/// Adapters that may import another, with the reason. This list may only shrink.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    (
        "tls",
        "upstream",
        "the client side of TLS is made from an endpoint and a credential",
    ),
    ("identity", "ebpf", "who a caller is starts with the flow entry"),
];

/// Rooms that import each other, with the reason. This list may only shrink.
const KNIT: [(&str, &str, &str); 1] = [(
    "body",
    "request_info",
    "a request holds its body, and a body is read against its request",
)];

type Graph = BTreeMap<String, BTreeSet<String>>;

pub(super) fn imports_point_down(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in CRATES {
        let graph = graph_of(workspace, member);
        if let Some(cycle) = cycle(&without_knit(graph.clone())) {
            findings.push(Finding::stop(format!(
                "{member}: {} is a cycle",
                cycle.join(" → ")
            )));
        }
        if member == "eks-guard-user" {
            findings.extend(against_the_order(&graph));
        }
    }
    findings
}

/// The graph, one module a line.
pub(super) fn draw(workspace: &Workspace) -> String {
    let mut lines = Vec::new();
    for member in CRATES {
        lines.push(format!("{member}:"));
        for (module, imports) in graph_of(workspace, member) {
            let imports = if imports.is_empty() {
                "–".to_owned()
            } else {
                imports.into_iter().collect::<Vec<_>>().join(", ")
            };
            lines.push(format!("  {module} → {imports}"));
        }
    }
    lines.join("\n")
}

fn without_knit(mut graph: Graph) -> Graph {
    for (lower, upper, _) in KNIT {
        if let Some(imports) = graph.get_mut(lower) {
            imports.remove(upper);
        }
    }
    graph
}

fn against_the_order(graph: &Graph) -> Vec<Finding> {
    let rank = |module: &str| {
        ABOVE_ADAPTERS
            .iter()
            .position(|above| *above == module)
            .map_or(0, |place| place + 1)
    };
    let excepted = |from: &str, to: &str| EXCEPTIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to));
    let mut findings = Vec::new();
    for (from, imports) in graph {
        for to in imports {
            let (above, below) = (rank(from), rank(to));
            let is_ground = |module: &str| BELOW_ADAPTERS.contains(&module);
            if is_ground(to) && !is_ground(from) {
                continue;
            }
            if above < below || is_ground(from) {
                findings.push(Finding::stop(format!(
                    "eks-guard-user: {from} imports {to}, which lies above it"
                )));
            } else if above == 0 && below == 0 && !excepted(from, to) {
                findings.push(Finding::stop(format!(
                    "eks-guard-user: the adapter {from} imports the adapter {to}"
                )));
            }
        }
    }
    findings
}

fn graph_of(workspace: &Workspace, member: &str) -> Graph {
    let prefix = format!("{member}/src/");
    let mut graph = Graph::new();
    for file in workspace.sources() {
        let Some(path) = file.path.strip_prefix(&prefix) else {
            continue;
        };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" || module == "bin" {
            continue;
        }
        let imports = graph.entry(module.to_owned()).or_default();
        imports.extend(
            imported_rooms(&file.code())
                .into_iter()
                .filter(|import| import != module),
        );
    }
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for imports in graph.values_mut() {
        imports.retain(|import| modules.contains(import));
    }
    graph
}

/// First names behind `crate::` and `eks_guard::` (the program's own library), groups included.
fn imported_rooms(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for root in ["crate::", "eks_guard::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => rooms.extend(group_heads(group)),
                None => rooms.extend(head(rest)),
            }
        }
    }
    rooms
}

/// First names of the items of `a::b, c::{d, e}}`.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0_i32;
    let mut heads = Vec::from_iter(head(group));
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(head(&group[at + 1..])),
            _ => {}
        }
    }
    heads
}

fn head(text: &str) -> Option<String> {
    let name: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// A cycle, if there is one: its modules, the first repeated at the end.
fn cycle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|start| visit(graph, start, &mut Vec::new(), &mut done))
}

fn visit(
    graph: &Graph,
    module: &str,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(place) = path.iter().position(|seen| seen == module) {
        let mut cycle = path[place..].to_vec();
        cycle.push(module.to_owned());
        return Some(cycle);
    }
    if done.contains(module) {
        return None;
    }
    path.push(module.to_owned());
    let found = graph
        .get(module)
        .into_iter()
        .flatten()
        .find_map(|next| visit(graph, next, path, done));
    path.pop();
    done.insert(module.to_owned());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    }

    #[test]
    fn reads_imports_in_every_form() {
        let code = "use crate::a::b;\nuse crate::{c, d::{e, f}, g::h};\nfn x() { crate::i::j(); othercrate::k::l(); }";
        let rooms: Vec<String> = imported_rooms(code).into_iter().collect();
        assert_eq!(rooms, ["a", "c", "d", "g", "i"]);
    }

    #[test]
    fn finds_a_cycle_and_only_a_cycle() {
        assert_eq!(cycle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
        assert_eq!(
            cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])),
            Some(["b", "c", "b"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn imports_point_from_app_over_proxy_to_adapters() {
        let good = [
            ("app", "proxy"),
            ("app", "tls"),
            ("proxy", "tls"),
            ("tls", "upstream"),
            ("main", "cli"),
        ];
        assert_eq!(against_the_order(&graph(&good)), []);
        assert_eq!(against_the_order(&graph(&[("tls", "proxy")])).len(), 1);
        assert_eq!(against_the_order(&graph(&[("proxy", "app")])).len(), 1);
        assert_eq!(against_the_order(&graph(&[("tls", "recording")])).len(), 1);
    }
}
