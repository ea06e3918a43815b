//! The libraries, with what Kubernetes' own evaluator says of the same expressions.

use serde_json::json;

use crate::policy::condition::Fault;
use crate::policy::condition::tests::{evaluate, holds, refusal};
use crate::policy::facts::Fact;

fn all_hold(sources: &[&str]) {
    for source in sources {
        assert_eq!(holds(source), Ok(true), "{source}");
        assert_eq!(holds(&format!("!({source})")), Ok(false), "{source}");
    }
}

fn none_is_answered(sources: &[&str]) {
    for source in sources {
        assert!(holds(source).is_err(), "{source}");
        assert!(holds(&format!("!({source})")).is_err(), "{source}");
    }
}

#[test]
fn semantic_versions_are_compared_by_precedence() {
    all_hold(&[
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('2.0.0').isGreaterThan(semver('1.99.99'))",
        "semver('1.0.0-alpha.2').compareTo(semver('1.0.0-alpha.10')) == -1",
        "semver('1.0.0-rc.1').isLessThan(semver('1.0.0')) && semver('1.0.0-1').isLessThan(semver('1.0.0-a'))",
        "semver('1.0.0+a') == semver('1.0.0+b') && semver('1.0.0+a').compareTo(semver('1.0.0')) == 0",
        "isSemver('0.1.0-alpha.1+x.01') && !isSemver('1.0') && !isSemver('v1.0.0') && !isSemver('01.0.0')",
        "!isSemver('1.0.0-01') && !isSemver('1.0.0-') && !isSemver('1.0.0+') && !isSemver('') && !isSemver(' 1.0.0')",
        "!isSemver('1.0.0-18446744073709551616') && isSemver('1.0.0-18446744073709551615')",
        "isSemver('v1.0', true) && !isSemver('vv1.0', true) && !isSemver('1.0-a', true) && !isSemver('1.0', false)",
        "semver('v01.02', true) == semver('1.2.0') && semver('00.0.007', true) == semver('0.0.7')",
        "semver('1.2.3-rc.1', true).compareTo(semver('1.2.3-rc.1')) == 0 && !isSemver('0x.1.1', true)",
        "semver('1.2.3') != semver('1.2.4')",
    ]);
    none_is_answered(&[
        "semver('1.0') == semver('1.0.0')",
        "semver('18446744073709551615.0.0').major() > 0",
        "semver(1) == semver('1.0.0')",
        "semver('1.0.0') < semver('2.0.0')",
    ]);
}

#[test]
fn urls_are_read_as_go_reads_them() {
    all_hold(&[
        "url('https://example.com:80/path?query=val#fragment').getHost() == 'example.com:80'",
        "url('https://user:pass@example.com:80/').getHostname() == 'example.com' && url('//a@b/c').getHost() == 'b'",
        "url('https://example.com:80/').getPort() == '80' && url('https://example.com/').getPort() == ''",
        "url('HTTPS://EXAMPLE.com').getScheme() == 'https' && url('https://EXAMPLE.com').getHost() == 'EXAMPLE.com'",
        "url('https://[::1]:80/').getHost() == '[::1]:80' && url('https://[::1]:80/').getHostname() == '::1'",
        "url('/path').getHost() == '' && url('/path').getScheme() == '' && url('/path').getEscapedPath() == '/path'",
        "url('https://e/path with spaces/').getEscapedPath() == '/path%20with%20spaces/'",
        "url('https://e/a%2Fb').getEscapedPath() == '/a%2Fb' && url('https://e/%41').getEscapedPath() == '/%41'",
        "url('https://e/ä').getEscapedPath() == '/%C3%A4' && url('https://e/a[b]!').getEscapedPath() == '/a[b]!'",
        "url('https://e/?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}",
        "url('https://e/?a+b=c%20d&bad;x=1&=2&&%zz=3').getQuery() == {'a b': ['c d'], '': ['2']}",
        "url('https://e/path?').getQuery() == {} && url('https://e/path').getQuery() == {}",
        "url('mailto:a@b').getScheme() == 'mailto' && url('mailto:a@b').getHost() == '' && url('*').getEscapedPath() == '*'",
        "url('https://e?') != url('https://e') && url('https://e/a b') == url('https://e/a%20b') && url('http:/a') != url('http:///a')",
        "isURL('https://a/b') && isURL('/absolute') && isURL('//a') && isURL('a:') && isURL('*') && isURL('http://a:')",
        "!isURL('../relative') && !isURL('') && !isURL('a b') && !isURL(':a') && !isURL('https://a:b/') && !isURL('ftp://a:b:c/')",
        "!isURL('https://e/%zz') && !isURL('https://a b/') && !isURL('https://[1.2.3.4]/') && !isURL('https://a#b') && !isURL('/a\\u0001')",
        "isURL('/a#b') && url('/a#b').getEscapedPath() == '/a' && isURL('ftp://a:1:2/') && url('ftp://a:1:2/').getHostname() == 'a:1'",
        "isURL('https://a@b@c/') && url('https://a@b@c/').getHost() == 'c' && !isURL('https://a\"b@c/') && isURL('https://a\"b/')",
        "isURL('//[a/') && url('///a').getEscapedPath() == '///a' && !isURL('1a:b')",
    ]);
    // Kubernetes knows these; here they have no answer.
    none_is_answered(&[
        "isURL('https://a%41b/')",
        "isURL('https://[fe80::1%25eth0]/')",
        "isURL('https://a:1:2/')",
        "isURL('https://us%65r@a/')",
        "url('https://e/?a=%ff').getQuery() == {}",
    ]);
    // These are none for Kubernetes either.
    none_is_answered(&[
        "url('//[a/') == url('/')",
        "url('../a') == url('/')",
        "url('https://a:b/').getPort() == ''",
    ]);
}

#[test]
fn named_formats_say_whether_a_text_has_them() {
    let valid = [
        ("dns1123Label", "a-1"),
        ("dns1123Subdomain", "a.b-c.1"),
        ("dns1035Label", "a-1"),
        ("qualifiedName", "example.com/My_name.1"),
        ("qualifiedName", "a"),
        ("dns1123LabelPrefix", "web-"),
        ("dns1123LabelPrefix", "a--"),
        ("dns1123SubdomainPrefix", "a.b-"),
        ("dns1035LabelPrefix", "web-"),
        ("labelValue", ""),
        ("labelValue", "A_b.c"),
        ("uri", "https://a/b"),
        ("uuid", "123E4567e89b-12d3-a456-426614174000"),
        ("byte", "aGVsbG8="),
        ("date", "2024-02-29"),
        ("datetime", "2021-01-01T00:00:00Z"),
        ("datetime", "2021-01-01t00:00:00x5+99:99"),
        ("datetime", "2021-01-01T00:00:00ZTx"),
    ];
    for (name, text) in valid {
        for format in [
            format!("format.{name}()"),
            format!("format.named('{name}').value()"),
        ] {
            all_hold(&[&format!("!{format}.validate('{text}').hasValue()")]);
        }
    }
    let long = "a".repeat(64);
    let invalid = [
        ("dns1123Label", "A"),
        ("dns1123Label", "a."),
        ("dns1123Label", &long),
        ("dns1123Subdomain", "a..b"),
        ("dns1035Label", "1a"),
        ("qualifiedName", "/a"),
        ("qualifiedName", "a/"),
        ("qualifiedName", "a/b/c"),
        ("qualifiedName", "A/b"),
        ("dns1123LabelPrefix", "-"),
        ("dns1123LabelPrefix", "-a"),
        ("dns1035LabelPrefix", "1-a"),
        ("labelValue", "-a"),
        ("uri", "a b"),
        ("uuid", "123e4567-e89b-12d3-a456-42661417400"),
        ("byte", ""),
        ("byte", "a"),
        ("date", "2023-02-29"),
        ("date", "2023-2-9"),
        ("datetime", "2021-01-01T24:00:00Z"),
        ("datetime", "2021-01-01 00:00:00Z"),
        ("datetime", "2021-01-01T00:00:00"),
    ];
    for (name, text) in invalid {
        all_hold(&[&format!("format.{name}().validate('{text}').hasValue()")]);
    }
    all_hold(&[
        "!format.named('none').hasValue() && format.uuid() == format.named('uuid').value() && format.uuid() != format.date()",
        "format.named('date').optMap(f, f.validate('x').hasValue()).orValue(false)",
    ]);
    // What is wrong is not told.
    none_is_answered(&[
        "format.date().validate('x').value().size() == 1",
        "format.date().validate('x').value()[0] == 'invalid date'",
        "format.date().validate(1).hasValue()",
    ]);
}

#[test]
fn lists_are_asked_also_as_sets() {
    all_hold(&[
        "[1, 2, 2].isSorted() && ![2.0, 1.0].isSorted() && ['a', 'b'].isSorted() && [].isSorted()",
        "[1, 3].sum() == 4 && [1.5, 0.5].sum() == 2.0 && [].sum() == 0 && [1u, 2u].sum() == 3u",
        "[duration('1m'), duration('1s')].sum() == duration('61s')",
        "[1, 3, 2].max() == 3 && ['b', 'a'].min() == 'a' && [false, true].max() && [1].min() == 1",
        "[1, 2, 2, 3].indexOf(2) == 1 && [1, 2, 2, 3].lastIndexOf(2) == 2 && [1.0].indexOf(1.1) == -1 && [].indexOf('a') == -1",
        "'abcb'.indexOf('b') == 1 && 'abcb'.lastIndexOf('b') == 3",
        "sets.contains([1, 2, 3], [2, 3]) && sets.contains([1], []) && !sets.contains([], [1]) && sets.contains(dyn([1.0]), [1])",
        "sets.equivalent([1, 1], [1]) && !sets.equivalent([1], [1, 2]) && sets.equivalent([], [])",
        "sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], []) && sets.intersects([[1]], [[1, 2], [1]])",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3] && [[[1]], [[2], [3]]].flatten(2) == [1, 2, 3]",
        "[2, 1, 2].distinct() == [2, 1] && [1, 2].reverse() == [2, 1] && [2, 1].sort() == [1, 2]",
        "[{'n': 'b'}, {'n': 'a'}].sortBy(e, e.n).map(e, e.n) == ['a', 'b']",
        "[1, 2].first() == optional.of(1) && [1, 2].last().value() == 2 && ![].first().hasValue()",
        "[optional.of(1), optional.none()].unwrapOpt() == [1] && optional.unwrap([optional.of('a')]) == ['a']",
        "optional.ofNonZeroValue('') == optional.none() && optional.none().or(optional.of(1)).value() == 1",
        "object.?spec.?replicas.optMap(n, n + 1).orValue(0) == 4 && object.?spec.optFlatMap(s, s.?nothing) == optional.none()",
        "[?object.?none, dyn(1)] == [1] && {?'a': object.?none} == {} && object[?'kind'].orValue('') == 'Deployment'",
        "object.spec.template.spec.containers.map(c, c.name).isSorted()",
        "object.spec.template.spec.containers.all(c, sets.contains(['a', 'b'], [c.name]))",
    ]);
    none_is_answered(&[
        "[].min() == 1",
        "['a', 'b'].sum() == 'ab'",
        "[1, 'a'].max() == 1",
        "[1, 2.0].sum() == 3",
        "[9223372036854775807, 1].sum() > 0",
        "[{}].isSorted() && [{}, {}].isSorted()",
        "[1].slice(0, 2) == [1]",
        "[1].unwrapOpt() == [1]",
        "[[1], [2]].sort() == []",
        "sets.contains(1, [1])",
        "object.kind.reverse() == ''",
    ]);
}

#[test]
fn durations_are_read_as_go_reads_them() {
    all_hold(&[
        "duration('1h30m') == duration('90m') && duration('-1.5s') == duration('-1500ms') && duration('+0') == duration('0')",
        "duration('.5s') == duration('500ms') && duration('1.s') == duration('1000000us') && duration('2µs') == duration('2000ns')",
        "duration('0.9999999999s') == duration('999999999ns') && duration('1m1m') == duration('2m')",
        "duration('9223372036854775807ns') > duration('-9223372036854775808ns') && duration(duration('1s')) == duration('1s')",
    ]);
    for text in [
        "",
        "1",
        "1h9",
        "1h ",
        "1 h",
        "h",
        "-",
        "1e3s",
        "inf",
        "1d",
        "1hä",
        "--1s",
        ".s",
        "9223372036854775808ns",
        "2562048h",
    ] {
        let written = refusal(&format!("duration('{text}') == duration('0')"));
        assert!(written.contains("it takes a duration"), "{text}: {written}");
        none_is_answered(&[&format!(
            "duration('{text}' + object.metadata.labels.app.substring(3)) < duration('0')"
        )]);
    }
    for (source, wanted) in [
        (
            "time > timestamp('2024-02-30T00:00:00Z')",
            "it takes a point in time",
        ),
        ("int('x') == 1", "it takes a number"),
        ("int(18446744073709551615u) == 1", "it takes a number"),
        ("double('x') == 1.0", "it takes a number"),
        ("bool('maybe')", "it takes true or false"),
    ] {
        assert!(refusal(source).contains(wanted), "{source}");
    }
}

#[test]
fn what_is_no_quantity_here_and_is_one_in_kubernetes_has_no_answer() {
    all_hold(&[
        "isQuantity('1e-3') && !isQuantity('e') && !isQuantity('1e3Gi') && !isQuantity(' 1') && !isQuantity('1..2')",
    ]);
    for text in [
        "Gi",
        "e3",
        "+",
        "-m",
        ".",
        "10E",
        "1e99",
        "0.00000000000000000000000000001",
    ] {
        none_is_answered(&[
            &format!("isQuantity('{text}')"),
            &format!("quantity('{text}').sign() == 0"),
        ]);
    }
}

#[test]
fn points_in_time_keep_their_zone() {
    all_hold(&[
        "string(timestamp('2021-03-28T01:00:00.250-08:00')) == '2021-03-28T01:00:00.25-08:00'",
        "string(timestamp('2021-03-28T01:00:00+05:30') + duration('1h')) == '2021-03-28T02:00:00+05:30'",
        "string(timestamp('2021-03-28T01:00:00+00:00')) == '2021-03-28T01:00:00Z' && string(time) == '2026-11-26T09:30:00Z'",
        "string(1) == '1' && string('a') == 'a' && string(ip('::1')) == '::1' && string(duration('1m')) == '60s'",
    ]);
}

#[test]
fn texts_are_searched_from_a_place_on() {
    all_hold(&[
        "'tacocat'.indexOf('a', 2) == 5 && 'tacocat'.indexOf('a', 1) == 1 && 'tacocat'.indexOf('a', 30) == -1",
        "'tacocat'.lastIndexOf('a', 4) == 1 && 'tacocat'.lastIndexOf('a', 6) == 5 && 'tacocat'.lastIndexOf('a', 7) == -1",
        "'äbäb'.indexOf('b', 2) == 3 && 'äbäb'.lastIndexOf('äb', 1) == 0 && 'ab'.indexOf('abc', 0) == -1",
        "''.indexOf('', 443) == 443 && 'abc'.indexOf('', -1) == -1 && 'abc'.lastIndexOf('', 10) == 10",
    ]);
    none_is_answered(&["'abc'.indexOf('a', -1) == 0", "'abc'.lastIndexOf('a', -1) == 0"]);
}

#[test]
fn what_a_library_made_is_compared_with_its_like() {
    all_hold(&["quantity('1') != quantity('2') && dyn(ip('::')) == ip('::0') && [ip('::')] != ['::']"]);
    for source in [
        "quantity('1Gi') == object.spec.memory",
        "object.spec.address != ip('::')",
        "quantity('1').add(1) == 2",
        "cidr('::/0') == ip('::')",
        "dyn(url('/')) == dyn('/')",
        "semver('1.0.0') == duration('1s')",
        "format.date() == 2 * 3",
    ] {
        assert!(refusal(source).contains("never equal"), "{source}");
    }
}

#[test]
fn what_is_left_out_says_why() {
    for (source, reason) in [
        (
            "object.kind.replace('a', 'b') == ''",
            "although Kubernetes has it: it makes values of any length",
        ),
        (
            "'%s'.format([object.kind]) == ''",
            "it makes values of any length",
        ),
        ("['a'].join() == ''", "it makes values of any length"),
        ("lists.range(3).size() == 3", "it makes values of any length"),
        (
            "quantity('1').isInteger()",
            "in Kubernetes it depends on how the quantity is written",
        ),
        ("[1].all(i, v, v > 0)", "a comprehension has one variable here"),
        (
            "[1].transformList(i, v, v).size() == 1",
            "a comprehension has one variable here",
        ),
        (
            "object.path('/healthz').check('get').allowed()",
            "the API server's authorizer is not asked here",
        ),
        ("[1].@sortByAssociatedKeys([1]) == [1]", "line 1, column"),
        (
            "format.dns1123Labl().validate('a').hasValue()",
            "did you mean `format.dns1123Label`?",
        ),
        (
            "url('/').getHost()",
            "it is text, and a condition is true or false",
        ),
        ("[1].sum()", "it is not true or false"),
        ("sets.contain([1], [1])", "did you mean `sets.contains`?"),
    ] {
        let message = refusal(source);
        assert!(message.contains(reason), "{source}: {message}");
    }
}

#[test]
fn what_compares_each_with_each_is_measured_so() {
    assert_eq!(
        holds("[1, 2].map(x, [x].map(y, [y].distinct()).size()).sum() == 2"),
        Ok(true)
    );
    let long = "object.spec.template.spec.containers.all(c, sets.contains([1".to_owned()
        + &", 1".repeat(150)
        + "], []))";
    assert_eq!(holds(&long), Err(Fault::TooCostly));
    let object = json!({"items": vec![1; 50], "spec": {"containers": [{"env": vec!["x"; 1000]}]}});
    let asked = |source: &str| evaluate(source, Fact::Absent, Fact::Present(&object));
    let list = "object.items";
    let joined = "(object.items + object.items + object.items)";
    for (left, right, wanted) in [
        (list, list, Ok(true)),
        (joined, list, Ok(true)),
        (joined, joined, Err(Fault::TooCostly)),
    ] {
        assert_eq!(
            asked(&format!("{left}.all(x, {right}.exists(y, x == y))")),
            wanted,
            "{left} {right}"
        );
    }
    let made = "[[object.items + object.items + object.items]].flatten()[0]";
    assert_eq!(
        asked(&format!("{made}.all(x, {made}.exists(y, x == y))")),
        Err(Fault::TooCostly)
    );
    // What is one element goes through nothing, however long lists inside are.
    let privileged = "[object.spec].exists(pod, (pod.containers + pod.?initContainers.orValue([])).exists(it, \
                      it.?securityContext.?privileged.orValue(false)))";
    assert_eq!(asked(privileged), Ok(false));
}

#[test]
fn every_kind_of_value_counts() {
    for item in [
        json!(null),
        json!(true),
        json!(1),
        json!("x"),
        json!({}),
        json!([]),
    ] {
        let many = vec![item; 3_000];
        let object = json!({"items": [many], "left": many, "right": many});
        for source in [
            "object.items.flatten().all(x, object.items.flatten().all(y, x == y))",
            "object.left.all(x, x in object.right)",
            "sets.contains(object.left, object.right)",
        ] {
            assert_eq!(
                evaluate(source, Fact::Absent, Fact::Present(&object)),
                Err(Fault::TooCostly),
                "{source} {}",
                object["left"][0]
            );
        }
    }
}
