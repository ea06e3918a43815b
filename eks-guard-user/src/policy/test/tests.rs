//! Files of cases, as people write them, down to exit code and output.

use std::fs;

use crate::policy::test::{TestArgs, TestOutput, test};
use crate::policy::{ALLOWED, INVALID, REFUSED};

const POLICY: &str = r#"apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p}
spec:
  subjects: {agents: [a], podSelector: {matchLabels: {team: web}}}
  rules:
    - {name: pods, effect: allow, verbs: [get, create], apiGroups: [""], resources: [pods], namespaces: [shop]}
    - name: small
      effect: allow
      verbs: [create, update]
      apiGroups: [apps]
      resources: [deployments]
      namespaces: [shop]
      conditions: [{name: replicas, expression: "object.spec.replicas <= 3"}]
    - name: hours
      effect: allow
      verbs: [delete]
      apiGroups: [apps]
      resources: [deployments]
      namespaceSelector: {matchLabels: {env: test}}
      conditions: [{name: hours, expression: "time.getHours() < 8"}]
    - {name: maps, effect: allow, verbs: ["*"], apiGroups: [""], resources: [configmaps], namespaces: [shop]}
    - {name: values, effect: mask, verbs: [get], apiGroups: [""], resources: [configmaps]}
    - {name: ask, effect: requireApproval, verbs: [delete], apiGroups: [""], resources: [configmaps]}
    - {name: no-host, effect: deny, verbs: [create], apiGroups: [""], resources: [pods], conditions: [{name: host, expression: "object.spec.?hostUsers.orValue(false)"}]}
"#;

const OBSERVER: &str = r#"---
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: trial}
spec:
  subjects: {agents: ["*"]}
  mode: Observe
  rules:
    - {name: no-pods, effect: deny, verbs: [get], apiGroups: [""], resources: [pods], resourceNames: [web-0]}
"#;

const HEAD: &str = "apiVersion: eks-guard.dev/v1alpha1
kind: PolicyTest
policies: [p.yaml]
namespaces: {shop: {env: test}}
principal: {agent: a, namespace: agents, labels: {team: web}}
cases:
";

struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn run(cases: &str, output: TestOutput) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.yaml"), format!("{POLICY}{OBSERVER}")).unwrap();
    let file = folder.path().join("cases.yaml");
    fs::write(&file, cases).unwrap();
    let args = TestArgs {
        files: vec![file],
        policies: Vec::new(),
        output,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = test(&args, &mut out, &mut err).unwrap();
    let text = |bytes| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(&format!("{}/", folder.path().display()), "")
    };
    Ran {
        code,
        out: text(out),
        err: text(err),
    }
}

/// Cases that hold, each in its own way.
const HOLDING: &str = r#"
  - name: one pod is seen
    request: {verb: get, resource: pods, name: web-1, namespace: shop}
    expect: {decision: allow, rule: p/pods}
  - name: elsewhere not
    request: {verb: get, resource: pods, name: web-1, namespace: other}
    expect: {decision: deny, reason: NoRuleAllows}
  - name: another team neither
    principal: {agent: a, namespace: agents, labels: {team: other}}
    request: {verb: get, resource: pods, name: web-1, namespace: shop}
    expect: {decision: deny}
  - name: nor outside Kubernetes
    principal: {agent: a}
    request: {verb: get, resource: pods, name: web-1, namespace: shop}
    expect: {decision: deny}
  - name: maps are masked
    request: {verb: get, resource: configmaps, name: c, namespace: shop}
    expect: {decision: mask, rule: p/values}
  - name: deleting them asks
    request: {verb: delete, resource: configmaps, name: c, namespace: shop}
    expect: {decision: requireApproval, rule: p/ask, reason: ApprovalRequired}
  - name: the trial would refuse
    request: {verb: get, resource: pods, name: web-0, namespace: shop}
    expect: {decision: observe, rule: trial/no-pods, reason: DeniedByRule}
  - name: and does not
    request: {verb: get, resource: pods, name: web-0, namespace: shop}
    expect: {decision: allow}
  - name: a pod in its body
    request:
      method: POST
      path: /api/v1/namespaces/shop/pods
      body: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [], hostUsers: true}}
    expect: {decision: deny, rule: p/no-host}
  - name: a small deployment
    request: {verb: create, apiGroup: apps, resource: deployments, name: web, namespace: shop}
    object: {spec: {replicas: 3}}
    expect: {decision: allow}
  - name: a large one
    request: {verb: create, apiGroup: apps, resource: deployments, name: web, namespace: shop}
    object: {spec: {replicas: 4}}
    expect: {decision: deny}
  - name: a change of which nothing is known
    request: {verb: update, resource: deploy, name: web, namespace: shop}
    expect: {decision: deny, reason: ObjectUnknown}
  - name: a change that is known
    request: {verb: update, resource: deploy, name: web, namespace: shop}
    oldObject: {spec: {replicas: 9}}
    object: {spec: {replicas: 2}}
    expect: {decision: allow}
  - name: early
    request: {verb: delete, resource: deploy, name: web, namespace: shop}
    time: 2026-01-31T07:00:00Z
    expect: {decision: allow, rule: p/hours}
  - name: late
    request: {verb: delete, resource: deploy, name: web, namespace: shop}
    time: 2026-01-31T09:00:00Z
    expect: {decision: deny}
  - name: a path
    request: {verb: get, path: /version}
    expect: {decision: allow, rule: builtin:discovery}
"#;

#[test]
fn cases_that_hold_pass() {
    let ran = run(&format!("{HEAD}{HOLDING}"), TestOutput::Table);
    assert_eq!(ran.code, ALLOWED, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.ends_with("16 cases, 0 failed\n") && ran.err.is_empty(),
        "{}",
        ran.out
    );
    assert!(
        ran.out.starts_with("ok      cases.yaml: one pod is seen\n"),
        "{}",
        ran.out
    );
}

#[test]
fn the_opposite_of_every_case_fails() {
    let opposite: String = HOLDING
        .lines()
        .map(|line| match line.split_once("expect: {decision: ") {
            None => format!("{line}\n"),
            Some((before, rest)) => {
                let (was, after) = rest.split_at(rest.find([',', '}']).unwrap());
                let other = if was == "deny" { "allow" } else { "deny" };
                format!("{before}expect: {{decision: {other}{after}\n")
            }
        })
        .collect();
    let ran = run(&format!("{HEAD}{opposite}"), TestOutput::Table);
    assert_eq!(ran.code, REFUSED, "{}", ran.out);
    assert!(ran.out.ends_with("16 cases, 16 failed\n"), "{}", ran.out);
}

#[test]
fn a_failed_case_says_what_was_decided_by_which_rule_and_why() {
    let case = "  - name: c\n    request: {verb: delete, resource: configmaps, name: c, namespace: shop}\n    \
                expect: {decision: allow, rule: p/maps}\n";
    let ran = run(&format!("{HEAD}{case}"), TestOutput::Table);
    assert_eq!(ran.code, REFUSED);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(
        lines[..2],
        ["FAILED  cases.yaml: c", "        expected: allow, rule p/maps"]
    );
    assert_eq!(
        lines[2],
        "        found:    requireApproval, ApprovalRequired, rule p/ask"
    );
    assert!(
        lines[3].starts_with("        why:      agent \"a\" may not delete configmaps"),
        "{lines:?}"
    );

    let json: serde_json::Value =
        serde_json::from_str(&run(&format!("{HEAD}{case}"), TestOutput::Json).out).unwrap();
    assert_eq!((&json["passed"], &json["failed"]), (&0.into(), &1.into()));
    let found = &json["cases"][0]["found"];
    assert_eq!(
        (&found["decision"], &found["rule"]),
        (&"requireApproval".into(), &"p/ask".into())
    );
    let yaml = run(&format!("{HEAD}{case}"), TestOutput::Yaml).out;
    let yaml: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn files_that_say_nothing_certain_are_invalid() {
    let case = "  - name: c\n    request: {verb: get, resource: pods}\n    expect: {decision: allow}\n";
    for (text, message) in [
        (format!("{HEAD}  []\n"), "no cases"),
        (
            HEAD.replace("policies: [p.yaml]\n", "") + case,
            "no policy decides",
        ),
        (
            HEAD.replace("p.yaml", "q.yaml") + case,
            "cannot read the policy file",
        ),
        (HEAD.replace("principal:", "principle:") + case, "principle"),
        (
            format!("{HEAD}{case}").replace("verb: get", "verb: read"),
            "unknown verb \"read\"",
        ),
        (format!("{HEAD}{case}").replace("allow}", "permit}"), "permit"),
        (
            format!("{HEAD}{case}").replace("allow}", "deny, reason: Nope}"),
            "unknown reason \"Nope\"",
        ),
        (
            format!("{HEAD}{case}").replace("{verb: get, resource: pods}", "{method: GET, path: //x}"),
            "RequestMalformed",
        ),
        (
            format!("{HEAD}{case}").replace("resource: pods}", "resource: pods, body: {a: b}}"),
            "a body belongs to a method and a path",
        ),
    ] {
        let ran = run(&text, TestOutput::Table);
        assert_eq!(ran.code, INVALID, "{text}\n{}{}", ran.out, ran.err);
        assert!(
            ran.err.contains(message) && ran.out.is_empty(),
            "{message}: {}{}",
            ran.out,
            ran.err
        );
    }
}

#[test]
fn the_example_of_the_manual_holds() {
    let page = include_str!("../../../../docs/policy-tools.md");
    let example = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains("kind: PolicyTest"))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let policy = POLICY.replace(
        "agents: [a], podSelector: {matchLabels: {team: web}}",
        "agents: [my-agent]",
    );
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let file = folder.path().join("cases.yaml");
    fs::write(&file, example).unwrap();
    let args = TestArgs {
        files: vec![file],
        policies: Vec::new(),
        output: TestOutput::Table,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = test(&args, &mut out, &mut err).unwrap();
    let said = String::from_utf8_lossy(&out);
    assert!(
        code == ALLOWED && said.ends_with("3 cases, 0 failed\n"),
        "{said}{}",
        String::from_utf8_lossy(&err)
    );
}
