//! The command as people type it, down to exit code and output.

use std::fs;
use std::path::Path;

use clap::Parser;

use crate::policy::{ALLOWED, INVALID, PolicyArgs, REFUSED, load};
use crate::upstream::KubeconfigOptions;

const POLICY: &str = r#"apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata:
  name: shop-developer
spec:
  subjects:
    agents: [my-agent]
  rules:
    - name: read
      effect: allow
      verbs: [get, list, watch]
      apiGroups: ["", apps]
      resources: [pods, pods/log, configmaps, deployments]
      namespaces: [shop]
    - name: nodes
      effect: allow
      verbs: [get, list]
      apiGroups: [""]
      resources: [nodes]
    - name: no-system
      effect: deny
      verbs: ["*"]
      apiGroups: ["*"]
      resources: ["*"]
      namespaces: [kube-system]
"#;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    policy: PolicyArgs,
}

struct Ran {
    code: u8,
    out: String,
    err: String,
}

/// Runs `policy …`; `FILE` stands for a file with `text`.
fn run(text: &str, line: &str) -> Ran {
    run_with_body(text, "", line)
}

/// The same; `BODY` stands for a YAML file with `body`.
fn run_with_body(text: &str, body: &str, line: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let [file, body_file] = ["p.yaml", "body.yaml"].map(|name| folder.path().join(name));
    fs::write(&file, text).unwrap();
    fs::write(&body_file, body).unwrap();
    let words = line.split_whitespace().map(|word| {
        if word == "FILE" {
            file.display().to_string()
        } else if word == "BODY" {
            body_file.display().to_string()
        } else {
            word.to_owned()
        }
    });
    let args = Line::try_parse_from(std::iter::once("policy".to_owned()).chain(words))
        .unwrap_or_else(|e| panic!("{e}"));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = args
        .policy
        .run(&KubeconfigOptions::default(), &mut out, &mut err)
        .unwrap();
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

fn explain(request: &str) -> Ran {
    run(POLICY, &format!("explain --policy FILE --as my-agent {request}"))
}

#[test]
fn check_counts_what_is_valid_and_reports_every_mistake() {
    let ran = run(POLICY, "check FILE");
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (ALLOWED, "p.yaml: valid, 1 policy, 3 rules\n")
    );
    let ran = run(
        &POLICY
            .replace("[get, list]", "[gett]")
            .replace("effect: deny", "effect: denied"),
        "check FILE",
    );
    assert_eq!((ran.code, ran.out.as_str()), (INVALID, ""));
    let places: Vec<&str> = ran
        .err
        .lines()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(places, ["p.yaml:17:15", "p.yaml:21:15"], "{}", ran.err);
    let ran = run(POLICY, "check FILE FILE");
    assert_eq!(ran.code, INVALID);
    assert!(
        ran.err
            .contains("policy \"shop-developer\" is already defined at p.yaml:1:1"),
        "{}",
        ran.err
    );
    // One that cannot be read keeps nobody from the mistakes in the next.
    let wrong = POLICY.replace("[get, list]", "[gett]");
    let ran = run(&wrong, "check /nonexistent/p.yaml FILE /nonexistent/q.yaml");
    assert_eq!((ran.code, ran.out.as_str()), (INVALID, ""));
    let unread =
        |name: &str| format!("cannot read the policy file /nonexistent/{name}: check the path: No such file");
    let said: Vec<&str> = ran.err.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].starts_with(&unread("p.yaml")) && said[2].starts_with(&unread("q.yaml")),
        "{said:?}"
    );
    assert!(said[1].starts_with("p.yaml:17:15: "), "{said:?}");
}

#[test]
fn check_warns_of_what_is_valid_and_still_surprises() {
    let text = POLICY
        .replace(
            "agents: [my-agent]",
            "agents: [my-agent]\n    groups: [ops]\n  justInTime: Required",
        )
        .replace("resources: [nodes]", "resources: [nodes]\n      masking: None");
    let ran = run(&text, "check FILE");
    assert_eq!(ran.code, ALLOWED);
    let warned: Vec<&str> = ran.err.lines().collect();
    assert_eq!(warned.len(), 3, "{warned:?}");
    assert!(
        warned[0].starts_with("p.yaml:17:7: warning: rule \"nodes\": `masking: None` lets"),
        "{warned:?}"
    );
    assert!(warned[1].starts_with("p.yaml:1:1: warning: containers, groups and claims are not proven"));
    assert!(warned[2].contains("gives no grants"));
}

#[test]
fn requests_are_understood_as_kubectl_would() {
    for (request, code, shown) in [
        (
            "get pods web-0 -n shop",
            ALLOWED,
            "get pods \"web-0\" in namespace \"shop\"",
        ),
        ("list po -n shop", ALLOWED, "list pods in namespace \"shop\""),
        (
            "list deploy -n shop",
            ALLOWED,
            "list deployments.apps in namespace \"shop\"",
        ),
        (
            "get deployments.apps web -n shop",
            ALLOWED,
            "get deployments.apps \"web\" in namespace \"shop\"",
        ),
        (
            "get deployments.v1.apps web -n shop",
            ALLOWED,
            "get deployments.apps \"web\" in namespace \"shop\"",
        ),
        (
            "get Pod/log web-0 -n shop",
            ALLOWED,
            "get pods/log \"web-0\" in namespace \"shop\"",
        ),
        ("get no n1", ALLOWED, "get nodes \"n1\""),
        ("list nodes -A", ALLOWED, "list nodes"),
        ("get /version", ALLOWED, "get path \"/version\""),
        (
            "delete pods web-0",
            REFUSED,
            "delete pods \"web-0\" in namespace \"default\"",
        ),
        (
            "delete pods web-0 -n shop",
            REFUSED,
            "delete pods \"web-0\" in namespace \"shop\"",
        ),
        ("list pods -A", REFUSED, "list pods in all namespaces"),
        (
            "get deployments/scale web -n shop",
            REFUSED,
            "get deployments.apps/scale \"web\" in namespace \"shop\"",
        ),
        (
            "list widgets.example.com -n shop",
            REFUSED,
            "list widgets.example.com in namespace \"shop\"",
        ),
        (
            "create sts -n shop",
            REFUSED,
            "create statefulsets.apps in namespace \"shop\"",
        ),
        ("get ns kube-system", REFUSED, "get namespaces \"kube-system\""),
        ("get /metrics", REFUSED, "get path \"/metrics\""),
    ] {
        let ran = explain(request);
        let first = ran.out.lines().next().unwrap_or_default();
        let word = if code == ALLOWED { "allowed" } else { "refused" };
        assert_eq!(
            (ran.code, first),
            (code, format!("{word}: {shown}").as_str()),
            "{request}\n{}",
            ran.err
        );
    }
}

#[test]
fn unclear_requests_are_invalid() {
    for (request, wanted) in [
        ("gett pods", "unknown verb \"gett\"; write one of get, list"),
        ("list /metrics", "unknown verb \"list\"; write one of get, post"),
        ("get pods -A", "get is about one object"),
        ("get po/ds/x", "\"po/ds/x\" is not a resource"),
        ("get p%", "\"p%\" is not a resource"),
        ("get pods/", "\"pods/\" is not a resource"),
        ("get /metrics x", "a path has no namespace"),
    ] {
        let ran = explain(request);
        assert_eq!((ran.code, ran.out.as_str()), (INVALID, ""), "{request}");
        assert!(ran.err.starts_with(wanted), "{request}: {}", ran.err);
    }
    let ran = run("kind: [", "explain --policy FILE --as a get pods");
    assert_eq!(ran.code, INVALID);
    assert!(ran.err.starts_with("p.yaml:1:"), "{}", ran.err);
}

#[test]
fn text_shows_why() {
    let ran = explain("delete pods web-0 -n shop");
    let wanted = r#"refused: delete pods "web-0" in namespace "shop"
reason:  NoRuleAllows
rule:    none
message: agent "my-agent" may not delete pods "web-0" in namespace "shop": no rule allows it; an allow rule for {verbs: [delete], apiGroups: [""], resources: [pods], namespaces: [shop], resourceNames: [web-0]} would; closest is rule "shop-developer/read", but verb delete is not in [get, list, watch]
agent:   my-agent, selected by shop-developer
path:    compiled-in: none → deny: none → requireApproval: none → allow: none → mask: none

RULE                      EFFECT  MATCHES  WHY
shop-developer/no-system  deny    no       namespace "shop" is not in [kube-system] (p.yaml:20:7)
shop-developer/nodes      allow   no       verb delete is not in [get, list]; resource pods is not in [nodes] (p.yaml:15:7)
shop-developer/read       allow   no       verb delete is not in [get, list, watch] (p.yaml:9:7)
"#;
    assert_eq!(ran.out, wanted);
    let ran = explain("create pods/exec web-0 -n shop");
    assert!(
        ran.out
            .contains("reason:  ConnectRefused\nrule:    builtin:no-connect\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("builtin:no-connect        deny    yes, decides  exec, attach"),
        "{}",
        ran.out
    );
}

#[test]
fn json_and_yaml_say_the_same() {
    let json: serde_json::Value = serde_json::from_str(&explain("list pods -A -o json").out).unwrap();
    assert_eq!(json["allowed"], false);
    assert_eq!(json["reason"], "DeniedByRule");
    assert_eq!(json["rule"], "shop-developer/no-system");
    assert_eq!(json["policies"], serde_json::json!(["shop-developer"]));
    let rules = json["rules"].as_array().unwrap();
    let decides = rules.iter().find(|rule| rule["finding"] == "decides").unwrap();
    assert_eq!(decides["location"], "p.yaml:20:7");
    assert_eq!(
        decides["because"][0],
        "the request reaches namespace [kube-system] among others"
    );
    let yaml: serde_json::Value = serde_saphyr::from_str(&explain("list pods -A -o yaml").out).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn files_are_loaded_together() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    for (path, name) in paths.iter().zip(["one", "two"]) {
        fs::write(path, POLICY.replace("shop-developer", name)).unwrap();
    }
    assert_eq!(load(&paths).unwrap().generation(), 1);
    fs::write(&paths[1], [0xff, 0xfe]).unwrap();
    let unreadable = load(&paths).unwrap_err().to_string();
    assert!(unreadable.contains("b: check the path: "), "{unreadable}");
    assert!(load(&[Path::new("/").to_path_buf()]).is_err());
}

#[test]
fn who_asks_and_what_the_body_says_count() {
    let policy = POLICY.replace(
        "agents: [my-agent]",
        "agents: [my-agent]\n    podSelector: {matchLabels: {team: web}}\n    serviceAccounts: [agents/robot]",
    );
    let line = "explain --policy FILE --as my-agent";
    let pods = "list pods -n shop";
    for (who, code) in [
        ("", REFUSED),
        ("--pod-label team=web", REFUSED),
        (
            "--pod-label team=other --pod-namespace agents --service-account robot",
            REFUSED,
        ),
        (
            "--pod-label team=web --pod-namespace agents --service-account robot",
            ALLOWED,
        ),
    ] {
        let ran = run(&policy, &format!("{line} {who} {pods}"));
        assert_eq!(ran.code, code, "{who}: {}", ran.out);
    }
    let creating = POLICY.replace(
        "    - name: no-system",
        "    - name: small\n      effect: allow\n      verbs: [create, patch]\n      apiGroups: [apps]\n      resources: \
         [deployments]\n      namespaces: [shop]\n      conditions: [{name: few, expression: object.spec.replicas < 3}]\n    \
         - name: no-system",
    );
    let post = "POST /apis/apps/v1/namespaces/shop/deployments?dryRun=All --body BODY";
    for (replicas, code) in [(2, ALLOWED), (3, REFUSED)] {
        let body = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: w}}, spec: {{replicas: {replicas}}}}}\n"
        );
        let ran = run_with_body(&creating, &body, &format!("{line} {post}"));
        assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    }
    let ran = run_with_body(&creating, "{a: b, a: c}\n", &format!("{line} {post}"));
    assert_eq!(ran.code, INVALID);
    assert!(ran.err.contains("BodyMalformed"), "{}", ran.err);
    let ran = run_with_body(&creating, "{}\n", &format!("{line} create pods --body BODY"));
    assert!(
        ran.code == INVALID && ran.err.contains("a body belongs to a method"),
        "{}",
        ran.err
    );
}

#[test]
fn the_path_through_the_rules_is_shown_and_what_an_observing_policy_would_change() {
    let observer = "---\napiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: trial}\nspec:\n  subjects: \
                    {agents: ['*']}\n  mode: Observe\n  rules:\n    - {name: no-pods, effect: deny, verbs: [list], apiGroups: \
                    [''], resources: [pods]}\n";
    let ran = run(
        &format!("{POLICY}{observer}"),
        "explain --policy FILE --as my-agent list pods -n shop",
    );
    assert_eq!(ran.code, ALLOWED);
    for line in [
        "path:    compiled-in: none → deny: none → requireApproval: none → allow: shop-developer/read decides → mask: none",
        "observe: policies in mode Observe would change it: refused (DeniedByRule), rule trial/no-pods",
    ] {
        assert!(ran.out.contains(line), "{}", ran.out);
    }
    let ran = run(
        &format!("{POLICY}{observer}"),
        "explain --policy FILE --as my-agent list pods -n shop -o json",
    );
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["observed"]["rule"], "trial/no-pods");
    let ran = explain("get pods web-0 -n kube-system");
    assert!(
        ran.out.contains("→ deny: shop-developer/no-system decides →"),
        "{}",
        ran.out
    );
}
