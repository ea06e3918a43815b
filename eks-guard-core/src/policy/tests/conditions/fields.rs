//! Fields that conditions read of objects, checked against the kinds that the rule is about.

use crate::policy::read_policies;
use crate::policy::tests::policy;

const DEPLOYMENTS: &str =
    r#"effect: allow, verbs: [update], apiGroups: [apps], resources: [deployments], namespaces: ["*"]"#;
const BOTH: &str = r#"effect: allow, verbs: [create], apiGroups: ["", apps], resources: [deployments, configmaps], namespaces: ["*"]"#;

/// Mistakes and warnings of a policy with one rule and one condition.
fn said(rule: &str, expression: &str) -> String {
    let rule = format!(r#"name: r, {rule}, conditions: [{{name: c, expression: "{expression}"}}]"#);
    let file = policy("p", &[&rule]);
    let texts: Vec<String> = match read_policies("p.yaml", &file) {
        Ok(policies) => policies[0]
            .warnings()
            .iter()
            .map(|it| it.message.clone())
            .collect(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    texts.join("; ")
}

#[test]
fn fields_that_no_kind_of_the_rule_has_are_mistakes() {
    for (rule, expression, wanted) in [
        (
            DEPLOYMENTS,
            "object.spec.replikas <= 3",
            "line 1, column 12: DeploymentSpec has no field `replikas`; did you mean `replicas`?",
        ),
        (
            DEPLOYMENTS,
            "has(oldObject.spec.replica)",
            "did you mean `replicas`?",
        ),
        (
            DEPLOYMENTS,
            "object.?spec.?paussed.orValue(false)",
            "did you mean `paused`?",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.all(c, c.imagee == 'a')",
            "Container has no field `imagee`; did you mean `image`?",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.filter(c, true).exists(c, c.imagee == 'a')",
            "did you mean `image`?",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.image == 'a'",
            "a list has no field `image`",
        ),
        (
            DEPLOYMENTS,
            "object.metadata.name.length == 3",
            "text has no field `length`",
        ),
        (
            DEPLOYMENTS,
            "object.spec.replicas == '3'",
            "it compares a number with text",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers[0].image > 3",
            "it compares text with a number",
        ),
        (
            BOTH,
            "object.spec.replicas <= 3 && object.dota == {}",
            "has no field `dota`",
        ),
        (
            "effect: allow, verbs: [create], apiGroups: [\"\"], resources: [pods/eviction], namespaces: [\"*\"]",
            "object.spec.nodeName == ''",
            "Eviction has no field `spec`",
        ),
    ] {
        let texts = said(rule, expression);
        assert!(texts.contains(wanted), "{expression}: {texts}");
    }
}

#[test]
fn fields_that_some_kind_of_the_rule_has_are_taken() {
    let any = r#"effect: deny, verbs: ["*"], apiGroups: ["*"], resources: ["*"]"#;
    let custom = r#"effect: deny, verbs: ["*"], apiGroups: [example.com], resources: [widgets]"#;
    let not_checked = "nobody has checked the fields of object";
    for (rule, expression, wanted) in [
        (
            DEPLOYMENTS,
            "object.spec.replicas <= 3 && object.metadata.labels.app == 'a' && object.kind == 'Deployment'",
            "",
        ),
        (
            DEPLOYMENTS,
            "object.spec['fieldOfTomorrow'] == 1 && object.metadata.labels['x'] == 'y' && time.getHours() > 1",
            "",
        ),
        (
            DEPLOYMENTS,
            "object == null || oldObject.metadata.creationTimestamp != ''",
            "",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.map(c, c.image).exists(i, i.startsWith('a'))",
            "",
        ),
        (
            DEPLOYMENTS,
            "quantity(object.spec.template.spec.containers[0].resources.limits.cpu).sign() == 1",
            "",
        ),
        (
            DEPLOYMENTS,
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '1'",
            "",
        ),
        (
            BOTH,
            "has(object.data) ? object.data.size == 'small' : object.spec.replicas <= 3",
            "",
        ),
        (
            "effect: deny, verbs: [update], apiGroups: [apps], resources: [deployments/scale]",
            "object.spec.replicas > 3",
            "",
        ),
        (
            "effect: deny, verbs: [create], apiGroups: [\"\"], resources: [pods]",
            "object.?deleteOptions.hasValue()",
            "",
        ),
        (any, "object.spec.anything == 1", not_checked),
        (
            custom,
            "object.spec.anything == oldObject.spec.anything",
            "the fields of object and oldObject",
        ),
        (custom, "request.name == 'x'", ""),
        (any, "request.verb == 'get'", ""),
    ] {
        let texts = said(rule, expression);
        assert!(
            if wanted.is_empty() {
                texts.is_empty()
            } else {
                texts.contains(wanted)
            },
            "{expression}: {texts}"
        );
    }
}

#[test]
fn what_may_be_one_kind_or_the_other_is_not_checked() {
    for expression in [
        "(object.kind == 'Pod' ? [object.spec] : [object.spec.template.spec]).all(it, has(it.containers))",
        "[object.spec, object.spec.template.spec].exists(it, has(it.containers))",
    ] {
        assert_eq!(said(DEPLOYMENTS, expression), "", "{expression}");
    }
}
