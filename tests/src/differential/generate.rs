//! Requests as clients send them, and requests as nobody sends them: the first ones go through every cell of the coverage,
//! the others are drawn, and a part of those is mangled.

use eks_guard_core::request_info::{ApiRequest, RequestScope};
use serde_json::{Value, json};

use crate::differential::body::{self, Effect};
use crate::differential::coverage::{Encoding, Task};
use crate::differential::mangle;
use crate::differential::query;
use crate::differential::random::Random;
use crate::differential::sample::{Routes, Sample};
use crate::differential::surface::{FIXTURE, LIVE, STILL};

/// How many in a hundred drawn requests are mangled.
const MANGLED: usize = 45;
/// How many in a hundred are about no resource.
const PLAIN: usize = 3;

/// Makes requests by number.
pub struct Generator<'a> {
    tasks: Vec<Task<'a>>,
    favourites: Vec<usize>,
    seed: u64,
}

impl<'a> Generator<'a> {
    /// Of this seed, for these cells.
    #[must_use]
    pub fn new(tasks: Vec<Task<'a>>, seed: u64) -> Self {
        // Where most of what is written in a cluster goes.
        let common = [
            "configmaps",
            "pods",
            "deployments",
            "services",
            "widgets",
            "gauges",
            "jobs",
            "roles",
        ];
        let favourites = tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| common.contains(&task.resource.name.as_str()))
            .map(|(index, _)| index)
            .collect();
        Self {
            tasks,
            favourites,
            seed,
        }
    }

    /// How many requests it takes to go through every cell once.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.tasks.len()
    }

    /// Request `number`; the same number is the same request.
    #[must_use]
    pub fn sample(&self, number: u64) -> Sample {
        let mut random = Random::of(self.seed, number);
        if let Some(task) = usize::try_from(number)
            .ok()
            .and_then(|index| self.tasks.get(index))
        {
            let mut sample = request(task, STILL, number, &mut random);
            sample.routes = Routes::Compared;
            sample.cell = Some(task.cell());
            return settle(sample);
        }
        if random.percent(PLAIN) {
            return settle(plain(number, &mut random));
        }
        let index = if random.percent(30) && !self.favourites.is_empty() {
            self.favourites[random.below(self.favourites.len())]
        } else {
            random.below(self.tasks.len())
        };
        let task = &self.tasks[index];
        if random.percent(MANGLED) {
            let mut sample = request(task, LIVE, number, &mut random);
            sample.routes = Routes::Guarded;
            for _ in 0..=random.below(2) {
                mangle::mangle(&mut sample, &mut random);
            }
            return settle(sample);
        }
        let namespace = if random.percent(40) { LIVE } else { STILL };
        let mut sample = request(task, namespace, number, &mut random);
        sample.routes = if namespace == STILL {
            Routes::Compared
        } else {
            Routes::Guarded
        };
        settle(sample)
    }
}

fn plain(number: u64, random: &mut Random) -> Sample {
    let paths = [
        "/version",
        "/healthz",
        "/livez/ping",
        "/readyz?verbose",
        "/api",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/api/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api/v1",
        "/",
        "/metrics",
        "/logs",
        "/nowhere/at/all",
        "/apis/absent.test/v1",
        "/.well-known/openid-configuration",
        "/openid/v1/jwks",
        "/api/",
        "/apis//",
        "/version/",
    ];
    Sample {
        number,
        method: random
            .pick(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])
            .to_owned(),
        target: random.pick(&paths).to_owned(),
        routes: Routes::Guarded,
        ..Sample::default()
    }
}

/// A request that a client could send.
fn request(task: &Task<'_>, namespace: &str, number: u64, random: &mut Random) -> Sample {
    let named = !matches!(task.verb, "list" | "watch" | "deletecollection")
        && (task.verb != "create" || task.part.is_some());
    let fresh = format!("made-{number}");
    let name = match task.verb {
        "create" if task.part.is_none() => fresh.as_str(),
        _ => random.pick(&[
            FIXTURE,
            FIXTURE,
            FIXTURE,
            "absent",
            "with:colon",
            "UPPER_and.dots",
        ]),
    };
    let everywhere = matches!(task.verb, "list" | "watch") && random.percent(20);
    let mut path = task.resource.collection(if everywhere { "" } else { namespace });
    // The other form of a watch.
    if task.verb == "watch" && random.percent(30) {
        path = path.replacen(
            &format!("/{}/", task.resource.version),
            &format!("/{}/watch/", task.resource.version),
            1,
        );
        if random.percent(50) {
            path = format!("{path}/{FIXTURE}");
        }
    }
    if named {
        path = format!("{path}/{name}");
    }
    if let Some(part) = task.part {
        path = format!("{path}/{}", part.name);
    }
    let mut sample = Sample {
        number,
        method: method(task.verb).to_owned(),
        ..Sample::default()
    };
    let dry = namespace == STILL || !task.resource.namespaced;
    let mut query = query::clean(task, dry, random);
    if dry
        && matches!(
            task.encoding,
            Encoding::Json | Encoding::Yaml | Encoding::Protobuf
        )
        && task.verb.starts_with("delete")
    {
        // Delete options in a body replace those in the query.
        query.retain(|(key, _)| key != "dryRun");
    }
    if task.encoding != Encoding::None {
        let object = object(task, namespace, name, dry, random);
        sample.body = body::write(task, &object, random);
        sample
            .headers
            .push(("Content-Type".to_owned(), task.encoding.media_type().to_owned()));
    }
    if random.percent(60) {
        let types = [
            "application/json",
            "*/*",
            "application/vnd.kubernetes.protobuf,application/json",
        ];
        sample
            .headers
            .push(("Accept".to_owned(), random.pick(&types).to_owned()));
    }
    sample.target = query::append(&path, &query, random);
    sample
}

const fn method(verb: &str) -> &'static str {
    match verb.as_bytes() {
        b"create" => "POST",
        b"update" => "PUT",
        b"patch" => "PATCH",
        b"delete" | b"deletecollection" => "DELETE",
        _ => "GET",
    }
}

/// What is sent: the object, the patch, or the options.
fn object(task: &Task<'_>, namespace: &str, name: &str, dry: bool, random: &mut Random) -> Value {
    if task.verb.starts_with("delete") {
        let mut options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        if dry {
            options["dryRun"] = json!(["All"]);
        }
        return options;
    }
    if task.encoding == Encoding::JsonPatch {
        return json!([
            {"op": "add", "path": "/metadata/labels", "value": {"turn": "patched"}},
            {"op": "test", "path": "/metadata/name", "value": name},
        ]);
    }
    let mut object = body::object(task, random);
    object["metadata"]["name"] = name.into();
    if task.resource.namespaced {
        object["metadata"]["namespace"] = namespace.into();
    }
    if matches!(
        task.encoding,
        Encoding::MergePatch | Encoding::StrategicMergePatch
    ) {
        object["metadata"]["annotations"] = json!({"patched": "yes", "gone": null});
        if random.percent(50)
            && let Some(members) = object.as_object_mut()
        {
            members.retain(|key, _| key == "metadata");
        }
    }
    if task.verb == "create" && task.part.is_none() && random.percent(5) {
        object["metadata"]["generateName"] = "made-".into();
        object["metadata"]["name"] = "".into();
    }
    object
}

/// Nothing that could change what the run stands on goes through the guard: writes at cluster scope, to namespaces themselves,
/// and to the still namespace, are dry runs, or are tried by the account without rights only.
fn settle(mut sample: Sample) -> Sample {
    let Ok(request) = ApiRequest::parse(&sample.method, sample.path(), sample.query()) else {
        return sample;
    };
    if !request.info().verb.is_mutating() {
        if sample.routes == Routes::Compared {
            // Lists and reads change while others write.
            sample.routes = Routes::Guarded;
        }
        return sample;
    }
    let effect = body::effect(&request, &sample);
    let dry = request.query_values("dryRun").next().is_some() || effect == Effect::Dry;
    let safe = match request.info().scope() {
        RequestScope::NonResource(_) => true,
        RequestScope::Resource(resource) => {
            // What is behind a proxy is no object, and here there is nothing behind one.
            dry || resource.subresource == "proxy"
                || (resource.namespace == LIVE && resource.resource != "namespaces")
        }
    };
    if !safe && effect != Effect::Refused {
        sample.routes = Routes::DirectOnly;
    } else if !dry && sample.routes == Routes::Compared {
        sample.routes = Routes::Guarded;
    }
    sample
}
