//! Tests of conditions in CEL: what they come out as, what is refused when a policy is read, and what they may cost.

mod libraries;
mod steps;
mod variables;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::policy::condition::expression::{ConditionError, Expression};
use crate::policy::condition::{Fault, Predicate, Schema};
use crate::policy::evidence::Evidence;
use crate::policy::facts::{Fact, Facts};
use crate::principal::{PodIdentity, Principal};
use crate::request_info::{ApiRequest, Verb};

/// 2026-11-26T09:30:00Z, a Thursday.
const NOW: Duration = Duration::from_secs(1_795_685_400);

fn evaluate(source: &str, old: Fact<'_>, object: Fact<'_>) -> Result<bool, Fault> {
    let expression =
        Expression::compile(source, &Schema::default()).unwrap_or_else(|error| panic!("{source}: {error}"));
    let principal = Principal {
        labels: Some([("team".to_owned(), "shop".to_owned())].into()),
        container: Some("main".into()),
        pod: Some(PodIdentity {
            namespace: "agents".into(),
            name: "agent-0".into(),
            uid: "u".into(),
            service_account: "robot".into(),
            node: "n1".into(),
        }),
        ..Principal::named("my-agent")
    };
    let request = ApiRequest::parse(
        "PATCH",
        "/apis/apps/v1/namespaces/shop/deployments/web",
        Some("dryRun=All"),
    );
    let request = request.unwrap();
    let facts = Facts {
        time: SystemTime::UNIX_EPOCH + NOW,
        old_object: old,
        object,
    };
    let evidence = Evidence::new(&principal, request.info(), Some(&request), &facts);
    expression.holds(&evidence, Verb::Patch)
}

/// With an object like those of Kubernetes.
fn holds(source: &str) -> Result<bool, Fault> {
    let object = object();
    evaluate(source, Fact::Absent, Fact::Present(&object))
}

fn object() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}, "annotations": null},
        "spec": {"replicas": 3, "ratio": 0.5, "template": {"spec": {"hostNetwork": false, "containers": [
            {"name": "a", "image": "registry.example/a:1", "resources": {"limits": {"memory": "512Mi", "cpu": "250m"}}},
            {"name": "b", "image": "registry.example/b@sha256:00", "securityContext": {"privileged": true}},
        ]}}},
    })
}

fn refusal(source: &str) -> String {
    match Expression::compile(source, &Schema::default()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{source} is taken"),
    }
}

#[test]
fn conditions_come_out_as_kubernetes_has_them() {
    for source in [
        "object.spec.replicas <= 3 && object.spec.replicas == 3.0",
        "object.spec.ratio < 1.0",
        "object.kind == 'Deployment' && object.metadata.labels['app'] == 'web'",
        "'tier' in object.metadata.labels && !('x' in object.metadata.labels)",
        "has(object.spec.template) && !has(object.spec.paused) && !has(object.metadata.annotations)",
        "oldObject == null",
        "object.spec.template.spec.containers.all(c, c.image.startsWith('registry.example/'))",
        "object.spec.template.spec.containers.exists(c, has(c.securityContext) && c.securityContext.privileged)",
        "object.spec.template.spec.containers.exists_one(c, c.name == 'a')",
        "object.spec.template.spec.containers.filter(c, c.name == 'a').map(c, c.image) == ['registry.example/a:1']",
        "object.spec.template.spec.containers.map(c, c.name).size() == 2",
        "object.?spec.?paused.orValue(true)",
        "object.metadata.labels == {'app': 'web', 'tier': 'front'}",
        "object.metadata.labels.all(k, k.matches('^[a-z]+$'))",
        "request.verb == 'patch' && request.apiGroup == 'apps' && request.version == 'v1' && request.resource == 'deployments'",
        "request.namespace == 'shop' && request.name == 'web' && request.subresource == '' && request.dryRun && request.isResource",
        "principal.agent == 'my-agent' && principal.namespace == 'agents' && principal.serviceAccount == 'robot'",
        "principal.labels['team'] == 'shop' && principal.container == 'main' && !has(principal.labels.x)",
        "time.getHours() == 9 && time.getDayOfWeek() == 4 && time > timestamp('2026-11-26T09:29:59Z')",
        "time.getHours('Europe/Berlin') == 10",
        "time + duration('1h') == timestamp('2026-11-26T10:30:00Z')",
        "'a-1'.matches('^\\\\w-\\\\d$') && !'ä'.matches('\\\\w') && !'٣'.matches('\\\\d')",
        "'[b]'.matches('^[a\\\\[]b]$') && !'ab'.matches('^[a[]b]$') && 'a]'.matches('^[^b][]]$') && '^'.matches('^[]^]$')",
        "'x=12,y=3'.find('[0-9]+') == '12' && 'x=12,y=3'.findAll('[0-9]+') == ['12', '3'] && 'abc'.find('z') == ''",
        "'x=12,y=3'.findAll('[0-9]+', 1) == ['12']",
        "quantity(object.spec.template.spec.containers[0].resources.limits.memory).isLessThan(quantity('1Gi'))",
        "quantity('0.1').compareTo(quantity('100m')) == 0 && quantity('1Ki') == quantity('1024')",
        "quantity('1.5Gi').sign() == 1 && quantity('-1').sign() == -1 && quantity('0').sign() == 0",
        "quantity('50k').add(quantity('20k')) == quantity('70k') && quantity('50k').sub(20) == quantity('49980')",
        "quantity('1E').isGreaterThan(quantity('1e17')) && quantity('0.1n') == quantity('1n')",
        "isQuantity('1.3Gi') && !isQuantity('1.3GiB') && !isQuantity('') && !isQuantity('1.1.1')",
        "ip('127.0.0.1').isLoopback() && ip('::1').isLoopback() && ip('192.168.0.1').family() == 4 && ip('::').isUnspecified()",
        "ip('10.1.2.3').isGlobalUnicast() && ip('fe80::1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast()",
        "isIP('::1') && !isIP('1.2.3') && !isIP('::ffff:1.2.3.4') && !isIP('01.2.3.4') && !isIP('fe80::1%eth0')",
        "ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3') && cidr('::/0').prefixLength() == 0",
        "string(ip('10.0.0.1')) == '10.0.0.1' && string(cidr('10.0.0.0/8')) == '10.0.0.0/8' && isCIDR('::/0') && !isCIDR('::/129')",
        "'a,b'.split(',') == ['a', 'b'] && ' a '.trim() == 'a' && 'AB'.lowerAscii() == 'ab' && 'abc'.substring(1) == 'bc'",
        // What is true is true, whatever the other side is.
        "true || object.nothing.here == 1",
        "object.nothing.here == 1 || true",
        "!(object.nothing == 1 && false)",
    ] {
        assert_eq!(holds(source), Ok(true), "{source}");
        assert_eq!(holds(&format!("!({source})")), Ok(false), "{source}");
    }
}

#[test]
fn what_has_no_answer_says_why() {
    for (source, fault) in [
        ("object.spec.paused", Fault::Missing),
        (
            "object.spec.template.spec.containers[7].name == ''",
            Fault::Missing,
        ),
        ("object.spec.replicas < 'a'", Fault::Type),
        ("object.spec.replicas", Fault::NotBool),
        ("1 / (object.spec.replicas - 3) == 0", Fault::Arithmetic),
        (
            "object.spec.replicas * 9223372036854775807 > 0",
            Fault::Arithmetic,
        ),
        ("quantity(object.kind).sign() == 0", Fault::Rejected),
        ("ip(object.kind).isLoopback()", Fault::Rejected),
        ("oldObject.spec.replicas == 3", Fault::Type),
        ("request.path == ''", Fault::Missing),
        ("principal.groups == []", Fault::Missing),
    ] {
        assert_eq!(holds(source), Err(fault), "{source}");
    }
}

#[test]
fn an_object_that_nobody_looked_at_gives_no_answer() {
    for source in [
        "object.spec.replicas < 4",
        "has(object.spec)",
        "!has(object.spec)",
        "object == null",
        "object.?spec.hasValue()",
        "!object.?spec.hasValue()",
        "object.spec.replicas < 4 || true",
        "request.verb == 'patch' && oldObject == null",
        "[1].all(x, object.spec.replicas < 4)",
        "dyn(object) == null",
    ] {
        assert_eq!(
            evaluate(source, Fact::Unknown, Fact::Unknown),
            Err(Fault::ObjectUnknown),
            "{source}"
        );
    }
    // The question does not come up.
    assert_eq!(
        evaluate("request.verb == 'get' && object.x", Fact::Unknown, Fact::Unknown),
        Ok(false)
    );
    assert_eq!(
        evaluate("true || object.x", Fact::Unknown, Fact::Unknown),
        Ok(true)
    );
}

#[test]
fn mistakes_are_found_when_the_policy_is_read() {
    for (source, wanted) in [
        (
            "objekt.spec.replicas < 4",
            "line 1, column 1: there is no variable `objekt`; did you mean `object`?",
        ),
        (
            "true &&\n  request.verb.beginsWith('a')",
            "there is no function `beginsWith` with 1 arguments here",
        ),
        ("quantitty('1').sign() == 1", "did you mean `quantity`?"),
        (
            "object.kind.startsWith()",
            "there is no function `startsWith` with 0 arguments",
        ),
        ("'abc'", "it is text, and a condition is true or false"),
        (
            "size(object.kind)",
            "it is a number, and a condition is true or false",
        ),
        ("object.kind.split(',')", "it is not true or false"),
        ("[true]", "it is not true or false"),
        ("object.kind.matches('(')", "the pattern is not taken"),
        (
            "object.kind.matches(object.pattern)",
            "the pattern has to be written out as text",
        ),
        ("object.kind.matches('\\\\pN')", "the pattern is not taken"),
        // RE2 and the crate disagree about these.
        (
            "object.kind.matches('[[:alpha:]]')",
            "`[:` in a class is not taken",
        ),
        (
            "object.kind.matches('[^a[:digit:]]')",
            "`[:` in a class is not taken",
        ),
        ("object.kind.matches('\\\\<none\\\\>')", "`\\<` is not taken here"),
        ("[1].all(object, true)", "`object` is taken"),
        ("object.spec ==", "line 1, column "),
        ("Foo{a: 1} == 1", "messages cannot be made here"),
        (
            "object.kind.replace('a', 'b') == ''",
            "there is no function `replace`",
        ),
        (
            "'%s'.format([object.kind]) == ''",
            "there is no function `format`",
        ),
    ] {
        let message = refusal(source);
        assert!(message.contains(wanted), "{source}: {message}");
    }
}

#[test]
fn what_could_cost_too_much_is_refused_when_the_policy_is_read() {
    let long = format!("object.kind == '{}'", "x".repeat(4096));
    assert_eq!(
        Expression::compile(&long, &Schema::default()).unwrap_err(),
        ConditionError::TooLong
    );
    for deep in [
        "(".repeat(2000) + "true" + &")".repeat(2000),
        "[".repeat(40) + &"]".repeat(40),
        "!".repeat(4000) + "true",
        "-".repeat(33) + "1 == 1",
        "1".to_owned() + &"+1".repeat(1500) + " == 1",
        "object".to_owned() + &".a".repeat(1500) + " == 1",
        "true ? ".repeat(900) + "true" + &" : true".repeat(200),
    ] {
        assert!(
            Expression::compile(&deep, &Schema::default()).is_err(),
            "{}",
            &deep[..40]
        );
    }
    let wide = "[1".to_owned() + &",1".repeat(290) + "].size() == 1";
    assert!(Expression::compile(&wide, &Schema::default()).is_ok());
    let parts = "[".to_owned() + &"[].filter(x,x),".repeat(50) + "1].size() == 1";
    assert!(refusal(&parts).contains("has more than 500 parts"));
    let nested = "object.a.all(x, object.a.all(y, object.a.all(z, x + y + z > 0)))";
    assert!(refusal(nested).contains("more than 2 of all, exists, map and filter"));
    let bomb = "['x']".to_owned() + &".map(x, x + x)".repeat(30) + ".size() == 1";
    assert!(refusal(&bomb).contains("too much longer"));
    let named = "optional.of(object.kind).optMap(x, x".to_owned() + &" + x".repeat(35) + ").hasValue()";
    assert!(refusal(&named).contains("too much longer"));
    let pairs = "[1]".to_owned() + &".map(x, [x, x])".repeat(30) + ".size() == 1";
    assert!(refusal(&pairs).contains("too much longer"));
}

#[test]
fn deep_expressions_fit_on_a_small_stack() {
    let on_small_stack = |run: fn()| {
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        thread.spawn(run).unwrap().join().unwrap();
    };
    on_small_stack(|| {
        let chain = "1".to_owned() + &"+1".repeat(36) + " == 37";
        let nested = "(".repeat(30) + "true" + &")".repeat(30);
        let calls = "dyn(".repeat(30) + "true" + &")".repeat(30);
        assert_eq!([&chain, &nested, &calls].map(|it| holds(it)), [Ok(true); 3]);
    });
    on_small_stack(|| {
        for link in [
            "+1",
            ".a",
            "[0]",
            "+1+a[0].b",
            " in a",
            " == 1",
            ".f()",
            "?1:1",
            "&&1",
        ] {
            let chain = "object".to_owned() + &link.repeat(590 / link.len().div_ceil(2)) + " == 1";
            assert!(Expression::compile(&chain, &Schema::default()).is_err(), "{link}");
        }
    });
}

#[test]
fn large_objects_are_measured_before_anything_is_evaluated() {
    let list = |length: usize| json!({"items": vec![json!({"name": "x"}); length]});
    let once = "object.items.all(x, x.name == 'x')";
    let twice = "object.items.all(x, object.items.all(y, x.name == y.name))";
    for (length, source, wanted) in [
        (2_000, once, Ok(true)),
        (20_001, once, Err(Fault::TooCostly)),
        (20, twice, Ok(true)),
        (142, twice, Err(Fault::TooCostly)),
    ] {
        let object = list(length);
        let found = evaluate(source, Fact::Absent, Fact::Present(&object));
        assert_eq!(found, wanted, "{length} {source}");
    }
    // A text that is gone through piece by piece counts as a list of them.
    let texts = |length: usize| json!({"a": ",".repeat(length), "b": ",".repeat(length)});
    let split = "object.a.split(',').all(x, x == '')";
    let pairs = "object.a.split(',').all(x, object.b.split(',').exists(y, x == y))";
    let joined = "(object.a + object.a + object.a).split('').size() > 0";
    for (length, source, wanted) in [
        (10_000, split, Ok(true)),
        (20_000, split, Err(Fault::TooCostly)),
        (100, pairs, Ok(true)),
        (141, pairs, Err(Fault::TooCostly)),
        (6_000, joined, Ok(true)),
        (7_000, joined, Err(Fault::TooCostly)),
        (20_000, "object.a.split('').size() > 0", Err(Fault::TooCostly)),
        (20_000, "object.a.findAll('.').size() > 0", Err(Fault::TooCostly)),
        (20_000, "object.a.indexOf(object.b) == 0", Err(Fault::TooCostly)),
        (
            20_000,
            "object.a.lastIndexOf(object.b) == 0",
            Err(Fault::TooCostly),
        ),
        (20_000, "object.a.contains(object.b)", Ok(true)),
    ] {
        let object = texts(length);
        let found = evaluate(source, Fact::Absent, Fact::Present(&object));
        assert_eq!(found, wanted, "{length} {source}");
    }
    // What is not read does not count.
    let mut object = list(30_000);
    object["kind"] = json!("X");
    let found = evaluate("object.kind == 'X'", Fact::Absent, Fact::Present(&object));
    assert_eq!(found, Ok(true));
}
