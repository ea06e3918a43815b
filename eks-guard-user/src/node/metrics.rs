//! The status as metrics: read from it at each scrape, so that the two never differ. Labels are names of agents' pods and of
//! the kernel programs' hooks: as many as there are on the node.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::node::status::{PodStatus, Status};

/// Namespace and name of a pod. Of two pods with one name, of which one is ending, there is one line.
type PodName<'s> = (&'s str, &'s str);

/// Shows whatever the status is then.
pub(crate) fn register(registry: &mut Registry, status: watch::Receiver<Status>) {
    let registry = registry.sub_registry_with_prefix("eks_guard");
    registry.register_collector(Box::new(StatusMetrics(status)));
}

#[derive(Debug)]
struct StatusMetrics(watch::Receiver<Status>);

impl Collector for StatusMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.borrow().clone();
        let mut page = Page(&mut encoder);
        page.of_the_node(&status)?;
        page.of_the_kernel(&status)?;
        page.of_agents(&status)
    }
}

/// What is written on.
struct Page<'p, 'e>(&'p mut DescriptorEncoder<'e>);

impl Page<'_, '_> {
    fn of_the_node(&mut self, status: &Status) -> fmt::Result {
        let yes = |is: bool| u64::from(is);
        let gauges = [
            (
                "problems",
                "What is wrong on the node now",
                status.problems.len() as u64,
            ),
            (
                "layers_lost",
                "Layers that do not hold and could not be put back",
                status.lost.len() as u64,
            ),
            (
                "attached",
                "Whether the kernel programs are attached",
                yes(status.attached),
            ),
            (
                "synced",
                "Whether pods and Services have been told as a whole since the start",
                yes(status.synced),
            ),
            (
                "forwarding_closed",
                "Whether what is forwarded for agents is looked at behind every rewriting",
                yes(status.forwarding_closed),
            ),
            (
                "proxy_up",
                "Whether there is a proxy process",
                yes(status.proxy.is_some()),
            ),
            (
                "policy_generation",
                "Generation of the policies in force",
                status.policy_generation,
            ),
        ];
        for (name, help, value) in gauges {
            self.metric(name, help, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        if let Some(connected) = status.nri_connected {
            let help = "Whether the container runtime holds pods back until they are classified";
            self.metric("nri_connected", help, MetricType::Gauge)?
                .encode_gauge(&yes(connected))?;
        }
        let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
        for pod in &status.pods {
            *classes.entry(&pod.class).or_default() += 1;
        }
        let classes = classes
            .into_iter()
            .map(|(class, pods)| ([("class", class)], pods));
        self.gauges("pods", "Pods by class", classes)
    }

    fn of_the_kernel(&mut self, status: &Status) -> fmt::Result {
        let counters = [
            (
                "proxy_restarts",
                "How often the proxy process was started again",
                status.proxy_restarts,
            ),
            (
                "repairs",
                "What was taken off the node and put back",
                status.repairs.values().sum(),
            ),
            (
                "redirected",
                "connect() calls that were redirected to the guard",
                status.redirected,
            ),
            (
                "flows",
                "Flow entries that the kernel programs wrote",
                status.flows,
            ),
            (
                "kernel_events_lost",
                "Events of refusals that nobody could read; they are counted all the same",
                status.events_lost,
            ),
            (
                "bypass_attempts",
                "Attempts of agents to get past the guard",
                status.bypass_attempts,
            ),
            (
                "forwarding_dropped",
                "Packets of agents that the packet filter dropped",
                status.forwarding_dropped,
            ),
        ];
        for (name, help, value) in counters {
            self.metric(name, help, MetricType::Counter)?
                .encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        let hooks = status.refusals.iter();
        let hooks = hooks.map(|(hook, count)| ([("hook", hook.as_str())], *count));
        self.counters(
            "kernel_refusals",
            "What the kernel programs refused, by hook",
            hooks,
        )
    }

    fn of_agents(&mut self, status: &Status) -> fmt::Result {
        let agents = || status.pods.iter().filter(|pod| pod.agent.is_some());
        let mut enforced: BTreeMap<PodName<'_>, u64> = BTreeMap::new();
        for pod in agents() {
            if let Some(trial) = &pod.verified {
                let value = u64::from(trial.problems.is_empty());
                let known = enforced.entry(name(pod)).or_insert(value);
                *known = value.min(*known);
            }
        }
        self.gauges(
            "enforced",
            "Whether the last trial from inside an agent's pod found every route closed",
            enforced.into_iter().map(of_pod),
        )?;
        let sum = |count: fn(&PodStatus) -> u64| {
            let mut sums: BTreeMap<PodName<'_>, u64> = BTreeMap::new();
            for pod in agents() {
                *sums.entry(name(pod)).or_default() += count(pod);
            }
            sums.into_iter().map(of_pod)
        };
        self.counters(
            "pod_refusals",
            "What the kernel programs refused an agent, as far as events were read",
            sum(|pod| pod.refused),
        )?;
        self.counters(
            "pod_bypass_attempts",
            "Attempts of an agent to get past the guard, as far as events were read",
            sum(|pod| pod.bypass_attempts),
        )
    }

    fn metric<'m>(
        &'m mut self,
        name: &'m str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'m>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        for (labels, value) in values {
            let mut one = metric.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }
}

fn name(pod: &PodStatus) -> PodName<'_> {
    (&pod.namespace, &pod.name)
}

fn of_pod<'s>(((namespace, pod), value): (PodName<'s>, u64)) -> ([(&'static str, &'s str); 2], u64) {
    ([("namespace", namespace), ("pod", pod)], value)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::node::canaries::Trial;

    #[test]
    fn the_page_says_what_the_status_says() {
        let agent = |problems: &[&str], refused| PodStatus {
            namespace: "shop".to_owned(),
            name: "bot".to_owned(),
            class: "agent".to_owned(),
            agent: Some("shop".to_owned()),
            refused,
            verified: Some(Trial {
                time: Timestamp::UNIX_EPOCH,
                problems: problems.iter().map(ToString::to_string).collect(),
            }),
            ..PodStatus::default()
        };
        let (status_tx, status_rx) = watch::channel(Status {
            attached: true,
            refusals: [("connect".to_owned(), 7)].into(),
            repairs: [("a".to_owned(), 2), ("b".to_owned(), 1)].into(),
            // A pod that ends and the one that follows it.
            pods: vec![agent(&["N01 reached"], 3), agent(&[], 4), PodStatus::default()],
            ..Status::default()
        });
        let mut registry = Registry::default();
        register(&mut registry, status_rx);
        let page = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let text = page();
        for line in [
            "eks_guard_attached 1\n",
            "eks_guard_repairs_total 3\n",
            "eks_guard_kernel_refusals_total{hook=\"connect\"} 7\n",
            "eks_guard_enforced{namespace=\"shop\",pod=\"bot\"} 0\n",
            "eks_guard_pod_refusals_total{namespace=\"shop\",pod=\"bot\"} 7\n",
            "eks_guard_pods{class=\"agent\"} 2\n",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{line}\n{text}");
        }
        assert!(!text.contains("nri_connected"), "{text}");
        status_tx.send_replace(Status::default());
        assert!(page().contains("eks_guard_attached 0\n"));
    }
}
