//! The guard and the API server asked about the same requests: generated ones, in ways that clients use and in ways that nobody
//! does. Each is sent through the guard, and as it is by an account without rights; a write that changes nothing also as it is by
//! one with the guard's rights. The guard's record, the API server's audit log and the replies have to agree.

pub mod body;
pub mod compare;
pub mod coverage;
pub mod exchange;
pub mod generate;
pub mod logs;
mod mangle;
mod objects;
mod protobuf;
mod query;
pub mod random;
pub mod sample;
pub mod surface;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;

use crate::cluster::Cluster;
use crate::differential::compare::{Fate, Replies};
use crate::differential::coverage::{Cell, tasks};
use crate::differential::exchange::{Answer, Boundary, Order, Pool};
use crate::differential::generate::Generator;
use crate::differential::logs::{AuditTail, RecordTail, Seen};
use crate::differential::sample::{Routes, Sample};
use crate::differential::surface::Resource;
use crate::guarded::Guarded;
use crate::http::Client;
use crate::http::session::Wanted;
use crate::policies::EVERYTHING;
use crate::wait;

/// So many are under way before the logs are read.
const BATCH: u64 = 1000;
/// Connections of each sender.
const CONNECTIONS: usize = 16;
/// The account without rights, and the group that it is in.
const STRANGER: &str = "differential-stranger";
/// The account with the guard's rights.
const TWIN: &str = "differential-twin";

/// What was tried, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests generated.
    pub requests: u64,
    /// Went through the guard to the API server.
    pub forwarded: u64,
    /// Refused by the guard, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Sent directly, and accepted by the guard's grammar.
    pub direct: u64,
    /// Writes whose replies were compared.
    pub compared: u64,
    /// Of these: the API server refuses the spelling, and takes the guard's spelling of the same value.
    pub respelled: u64,
    /// Cells of the coverage that were tried.
    pub cells: BTreeSet<Cell>,
    /// Cells whose request went to the API server.
    pub forwarded_cells: BTreeSet<Cell>,
    /// What does not agree: the request by hand, and why.
    pub disagreements: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().sum();
        write!(
            f,
            "{} requests: {} forwarded, {refused} refused, {} understood when sent directly, {} writes compared \
             ({} respelled), {} disagreements",
            self.requests,
            self.forwarded,
            self.direct,
            self.compared,
            self.respelled,
            self.disagreements.len()
        )
    }
}

/// The three senders, and both logs.
pub struct Differential<'a> {
    cluster: &'a Cluster,
    upstream: String,
    resources: Vec<Resource>,
    boundary: Boundary,
    stranger: Pool,
    twin: Pool,
    audit: AuditTail,
    records: RecordTail,
}

impl<'a> Differential<'a> {
    /// Furnishes the cluster and starts a guard that allows everything.
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        let resources = surface::furnish(cluster)?;
        let guarded = Guarded::new(cluster, "differential", EVERYTHING)?;
        let server = cluster.server();
        let boundary = Boundary::start(&guarded, server, CONNECTIONS)?;
        let tls = |user: &str, group: &str| -> Result<Arc<ClientConfig>> {
            let identity = cluster.authority().client(user, group)?;
            Ok(Client::new(server, &cluster.authority().pem(), Some(&identity))?.tls())
        };
        let stranger = Pool::start(server, &tls(STRANGER, STRANGER)?, CONNECTIONS);
        let twin = Pool::start(server, &tls(TWIN, crate::cluster::UPSTREAM_GROUP)?, CONNECTIONS);
        let users = [guarded.upstream_user(), STRANGER, TWIN];
        Ok(Self {
            audit: AuditTail::follow(&cluster.audit().path(), &users)?,
            records: RecordTail::follow(guarded.records()),
            upstream: guarded.upstream_user().to_owned(),
            cluster,
            resources,
            boundary,
            stranger,
            twin,
        })
    }

    /// What the API server serves.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Sends the requests with these numbers, in batches; `progress` hears of each batch.
    pub fn run(
        &mut self,
        seed: u64,
        numbers: std::ops::Range<u64>,
        mut progress: impl FnMut(&Tally),
    ) -> Result<Tally> {
        let resources = self.resources.clone();
        let generator = Generator::new(tasks(&resources), seed);
        let mut tally = Tally::default();
        let mut next = numbers.start;
        while next < numbers.end {
            let end = (next + BATCH).min(numbers.end);
            let samples: Vec<Sample> = (next..end).map(|number| generator.sample(number)).collect();
            self.batch(&samples, &mut tally)
                .with_context(|| format!("requests {next} to {end} with seed {seed}"))?;
            progress(&tally);
            next = end;
        }
        Ok(tally)
    }

    fn batch(&mut self, samples: &[Sample], tally: &mut Tally) -> Result<()> {
        let server = self.cluster.server();
        let orders = |name: &str, wanted: fn(&Sample) -> bool| -> Vec<Order> {
            let chosen = samples.iter().filter(|sample| wanted(sample));
            chosen
                .map(|sample| Order::new(sample.number, &sample.wire(server, name), sample.wanted()))
                .collect()
        };
        let through = orders("differential", |sample| sample.routes != Routes::DirectOnly);
        let guarded = by_number(self.boundary.run(&through)?);
        self.stranger.run(orders("stranger", |_| true))?;
        let twins: Vec<Sample> = samples
            .iter()
            .filter(|sample| sample.routes == Routes::Compared)
            .map(Sample::answered_in_json)
            .collect();
        let twins = twins
            .iter()
            .map(|sample| Order::new(sample.number, &sample.wire(server, "twin"), sample.wanted()));
        let twin = by_number(self.twin.run(twins.collect())?);
        self.catch_up(samples, &guarded)?;
        self.judge(samples, &guarded, &twin, tally);
        self.audit.clear();
        self.records.clear();
        Ok(())
    }

    /// Waits until both logs hold all that was sent.
    fn catch_up(&mut self, samples: &[Sample], guarded: &HashMap<u64, Answer>) -> Result<()> {
        let whole: BTreeSet<u64> = samples
            .iter()
            // The API server cannot log the end of an apply patch in YAML: the log is JSON, and it holds patches as they came.
            .filter(|sample| {
                sample.wanted() == Wanted::Whole && (sample.method != "PATCH" || is_json(&sample.body))
            })
            .map(|sample| sample.number)
            .collect();
        let (audit, records) = (&mut self.audit, &mut self.records);
        let (mut missing, mut open) = (Vec::<&Sample>::new(), Vec::new());
        let caught_up = wait::until("both logs hold every request", || {
            records.update()?;
            audit.update()?;
            let outcomes = records.outcomes();
            let sent = samples
                .iter()
                .filter(|sample| sample.is_http() && guarded.contains_key(&sample.number));
            missing = sent
                .filter(|sample| !outcomes.contains_key(&sample.number))
                .collect();
            let all = [self.upstream.as_str(), TWIN]
                .into_iter()
                .flat_map(|user| audit.of(user).values());
            open = all
                .filter(|seen| !seen.complete && seen.number.is_some_and(|number| whole.contains(&number)))
                .map(|seen| seen.uri.clone())
                .collect();
            Ok(missing.is_empty() && open.is_empty())
        });
        caught_up.with_context(|| format!("without a record: {missing:?}; without an end: {open:?}"))
    }

    fn judge(
        &self,
        samples: &[Sample],
        guarded: &HashMap<u64, Answer>,
        twin: &HashMap<u64, Answer>,
        tally: &mut Tally,
    ) {
        let upstream = self.audit.of(&self.upstream);
        let reached: HashMap<u64, &Seen> = numbered(upstream);
        let strange = numbered(self.audit.of(STRANGER));
        let twins = numbered(self.audit.of(TWIN));
        for sample in samples {
            tally.requests += 1;
            let number = sample.number;
            let mut found = Vec::new();
            tally.direct += u64::from(compare::Understood::parsed(sample).is_some());
            found.extend(compare::direct(sample, strange.get(&number).copied()).err());
            if let (Some(seen), false) = (reached.get(&number), sample.is_http()) {
                found.push(format!("it is no request, and reached the API server: {seen:?}"));
            }
            if let (Some(answer), Some(event)) = (guarded.get(&number), self.records.outcomes().get(&number))
            {
                let seen = upstream.get(&event.id).or(reached.get(&number).copied());
                match compare::guarded(event, seen, answer) {
                    Ok(Fate::Refused) => {
                        *tally
                            .refused
                            .entry(event.reason.clone().unwrap_or_default())
                            .or_default() += 1;
                        tally.cells.extend(sample.cell.clone());
                    }
                    Ok(Fate::Forwarded) => {
                        tally.forwarded += 1;
                        tally.cells.extend(sample.cell.clone());
                        tally.forwarded_cells.extend(sample.cell.clone());
                        if let (Some(seen), Some(theirs), Some(reply)) =
                            (seen, twins.get(&number), twin.get(&number))
                        {
                            tally.compared += 1;
                            match compare::stored((seen, answer), (theirs, reply)) {
                                Ok(Replies::Equal | Replies::Busy) => {}
                                Ok(Replies::Respelled) => tally.respelled += 1,
                                Err(why) => found.push(why),
                            }
                        }
                    }
                    Err(why) => found.push(why),
                }
            }
            tally.disagreements.extend(
                found
                    .into_iter()
                    .map(|why| format!("request {number}\n    {}\n    {why}", sample.curl())),
            );
        }
    }

    /// Ends the guard; everything that reached the API server in its name has been accounted for.
    pub fn end(self) -> Result<()> {
        self.boundary.end()
    }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

fn numbered(seen: &HashMap<String, Seen>) -> HashMap<u64, &Seen> {
    seen.values()
        .filter_map(|seen| Some((seen.number?, seen)))
        .collect()
}

fn by_number(answers: Vec<Answer>) -> HashMap<u64, Answer> {
    answers
        .into_iter()
        .map(|answer| (answer.number, answer))
        .collect()
}

/// A tally without a disagreement.
pub fn agreed(tally: &Tally) -> Result<()> {
    ensure!(
        tally.disagreements.is_empty(),
        "{tally}; the first ones:\n{}",
        tally
            .disagreements
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    Ok(())
}
