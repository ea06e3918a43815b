//! Bodies: one canonical JSON whatever they came as, which a second library reads as the same value.

use eks_guard_core::body::json::{self as own, JsonError};
use eks_guard_core::body::{Body, MAX_BODY, protobuf as wire};
use eks_guard_core::request_info::ApiRequest;
use serde_json::Value;

use crate::target::Reading;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/a";
const PATCHES: [&str; 4] = [
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
];

/// JSON, as an object and as every kind of patch.
pub(crate) fn json(bytes: &[u8]) -> Reading {
    read_as(&request("POST", MAPS), "application/json", bytes);
    for content_type in PATCHES {
        read_as(&request("PATCH", MAP), content_type, bytes);
    }
    let second = serde_json::from_slice::<Value>(bytes);
    let canonical = match own::canonical(bytes) {
        Ok(canonical) => canonical,
        Err(error) => {
            assert!(!error.is_syntax() || second.is_err(), "{error}, but it is JSON");
            return Reading::Refused;
        }
    };
    assert!(
        canonical.text.len() <= bytes.len() * 6,
        "it grew to {}",
        canonical.text.len()
    );
    assert_eq!(own::canonical(&canonical.text), Ok(canonical.clone()));
    match second {
        Ok(value) => assert_eq!(serde_json::from_slice::<Value>(&canonical.text).ok(), Some(value)),
        Err(error) => assert!(
            is_a_limit(&error),
            "{error}: {:?}",
            String::from_utf8_lossy(bytes)
        ),
    }
    Reading::Taken
}

/// What the second library takes less of: nesting of 128 levels, and numbers beyond a double.
fn is_a_limit(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    text.contains("recursion limit") || text.contains("number out of range")
}

/// YAML, as an object and as what is applied.
pub(crate) fn yaml(bytes: &[u8]) -> Reading {
    let created = read_as(&request("POST", MAPS), "application/yaml", bytes);
    let applied = read_as(&request("PATCH", MAP), "application/apply-patch+yaml", bytes);
    if created == Reading::Taken {
        return created;
    }
    applied
}

/// Protobuf of any built-in kind: what comes out is JSON, whoever reads it.
pub(crate) fn protobuf(bytes: &[u8]) -> Reading {
    let Ok(text) = wire::to_json(bytes) else {
        return Reading::Refused;
    };
    if text.len() <= MAX_BODY {
        read_as(
            &request("POST", MAPS),
            "application/vnd.kubernetes.protobuf",
            bytes,
        );
    }
    match own::canonical(&text) {
        Ok(canonical) => {
            let value = serde_json::from_slice::<Value>(&text);
            let again = serde_json::from_slice::<Value>(&canonical.text);
            assert_eq!(value.ok(), again.ok());
            Reading::Taken
        }
        Err(
            JsonError::DuplicateKey { .. }
            | JsonError::TooDeep { .. }
            | JsonError::WrongType { .. }
            | JsonError::LookAlike { .. },
        ) => Reading::Refused,
        Err(
            error @ (JsonError::NotUtf8 { .. }
            | JsonError::Syntax { .. }
            | JsonError::Trailing { .. }
            | JsonError::LoneSurrogate { .. }),
        ) => panic!("{error}: {}", String::from_utf8_lossy(&text)),
    }
}

fn request(method: &str, path: &str) -> ApiRequest {
    ApiRequest::parse(method, path, None).expect("it is a request")
}

fn read_as(request: &ApiRequest, content_type: &str, bytes: &[u8]) -> Reading {
    match Body::read(request, Some(content_type), bytes) {
        Ok(body) => {
            is_stable(request, &body);
            Reading::Taken
        }
        Err(_) => Reading::Refused,
    }
}

/// What goes upstream is read as itself, and is JSON.
pub(crate) fn is_stable(request: &ApiRequest, body: &Body) {
    assert!(body.json().len() <= MAX_BODY);
    if body.is_empty() {
        return;
    }
    let again = Body::read(request, Some(body.content_type()), body.json());
    let again = again.unwrap_or_else(|refusal| {
        panic!(
            "the guard refuses its own {}: {refusal}",
            String::from_utf8_lossy(body.json())
        )
    });
    assert_eq!(again.json(), body.json());
    assert_eq!(again.content_type(), body.content_type());
    if let Err(error) = serde_json::from_slice::<Value>(body.json()) {
        assert!(
            is_a_limit(&error),
            "{error}: {}",
            String::from_utf8_lossy(body.json())
        );
    }
    let carried = request.clone().with_body(again);
    if let Ok(carried) = carried {
        assert_eq!(carried.info().scope(), request.info().scope());
    }
}
