//! The upstream credential across the process boundary: the loader reads files and starts plugins, the proxy is told what came
//! of it, and says when the API server refuses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::node::proxy_process::ProxyLink;
use crate::node::proxy_process::message::{FromProxy, ToLoader, ToProxy};
use crate::upstream::{
    Credential, CredentialError, CredentialFuture, CredentialSource, HandedCredential, HandoverError,
};

/// How often the source is asked whether it has another one; it answers from its memory as long as that is good.
const LOOK: Duration = Duration::from_secs(1);
/// Between two renewals that the proxy asks for: each may start a plugin, and whoever has taken the proxy over asks without end.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for a credential that is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// The loader's side: keeps the proxy's credential what the source says it is. `refused` is notified when the API server
/// refused it. Never ends.
pub(crate) async fn publish(
    source: Arc<dyn CredentialSource>,
    link: Arc<dyn ProxyLink>,
    refused: Arc<Notify>,
) {
    let mut told = None;
    let mut next_renewal = Instant::now();
    loop {
        let said = HandedCredential::from(&source.credential().await);
        if told.as_ref() != Some(&said) {
            link.keep(ToProxy::Credential(said.clone()));
            told = Some(said);
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = refused.notified() => {
                sleep_until(next_renewal).await;
                next_renewal = Instant::now() + RENEWAL_PAUSE;
                source.invalidate();
                // Whoever said so waits for an answer, be it the same again.
                told = None;
            }
        }
    }
}

/// What the loader said last, and how often it has said something.
#[derive(Clone, Default)]
struct Said {
    number: u64,
    credential: Option<Result<Credential, CredentialError>>,
}

/// The proxy's side.
pub(super) struct ToldCredential {
    said: watch::Sender<Said>,
    /// Number of the last one that the API server refused.
    refused: AtomicU64,
    loader: Arc<ToLoader>,
}

impl ToldCredential {
    pub(super) fn new(loader: Arc<ToLoader>) -> Arc<Self> {
        Arc::new(Self {
            said: watch::channel(Said::default()).0,
            refused: AtomicU64::new(0),
            loader,
        })
    }

    pub(super) fn set(&self, handed: HandedCredential) -> Result<(), HandoverError> {
        let credential = handed.said()?;
        self.said.send_modify(|said| {
            said.number += 1;
            said.credential = Some(credential);
        });
        Ok(())
    }

    async fn current(&self) -> Result<Credential, CredentialError> {
        let mut said = self.said.subscribe();
        let refused = self.refused.load(Ordering::Acquire);
        let another = said.wait_for(|said| said.credential.is_some() && said.number > refused);
        let known = match timeout(PATIENCE, another).await {
            Ok(Ok(said)) => said.credential.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        known.unwrap_or_else(|| Err(CredentialError::new("the guard's loader does not hand one over")))
    }
}

impl CredentialSource for ToldCredential {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(self.current())
    }

    fn invalidate(&self) {
        let number = self.said.borrow().number;
        if self.refused.fetch_max(number, Ordering::AcqRel) < number
            && self.loader.say(&FromProxy::CredentialRefused).is_err()
        {
            tracing::error!("the loader cannot be told that the credential was refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::BorrowedFd;

    use tokio::task::JoinSet;

    use super::*;
    use crate::node::proxy_process::FlowTables;
    use crate::run::channel::Channel;
    use crate::testing::{FakeCredentials, eventually};

    /// Hands what is kept straight to the proxy's side.
    struct Direct {
        to: Arc<ToldCredential>,
        flows: FlowTables,
    }

    impl ProxyLink for Direct {
        fn incarnation(&self) -> Option<u64> {
            Some(1)
        }

        fn tell(&self, _message: &ToProxy, _descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
            Ok(())
        }

        fn keep(&self, message: ToProxy) {
            if let ToProxy::Credential(said) = message {
                self.to.set(said).unwrap();
            }
        }

        fn flows(&self) -> &FlowTables {
            &self.flows
        }
    }

    fn token(credential: Result<Credential, CredentialError>) -> String {
        match credential {
            Ok(Credential::Bearer(value)) => value.to_str().unwrap().to_owned(),
            Ok(Credential::ClientCertificate(_)) | Err(_) => panic!("no token"),
        }
    }

    /// The loader's side at work: whose credentials it hands over, what wakes it, and what ends it when dropped.
    fn published(link: Direct) -> (Arc<FakeCredentials>, Arc<Notify>, JoinSet<()>) {
        let (source, refused) = (Arc::new(FakeCredentials::default()), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(publish(
            Arc::clone(&source) as _,
            Arc::new(link),
            Arc::clone(&refused),
        ));
        (source, refused, tasks)
    }

    #[tokio::test]
    async fn a_refused_credential_is_replaced_by_another() {
        let (loader, proxy) = Channel::pair().unwrap();
        let told = ToldCredential::new(ToLoader::on(proxy));
        let link = Direct {
            to: Arc::clone(&told),
            flows: FlowTables::default(),
        };
        let (source, refused, _tasks) = published(link);
        let first = eventually("a credential", told.credential()).await;
        assert_eq!(token(first), "Bearer guard-token-0");
        // Said once, however many requests were refused.
        told.invalidate();
        told.invalidate();
        assert_eq!(loader.receive().unwrap(), Some(FromProxy::CredentialRefused));
        refused.notify_one();
        let second = eventually("another credential", told.credential()).await;
        assert_eq!(token(second), "Bearer guard-token-1");
        assert_eq!(source.renewals(), 1);
    }

    #[tokio::test]
    async fn a_proxy_that_complains_without_end_does_not_hurry_the_plugin() {
        let (_loader, proxy) = Channel::pair().unwrap();
        let link = Direct {
            to: ToldCredential::new(ToLoader::on(proxy)),
            flows: FlowTables::default(),
        };
        let (source, refused, _tasks) = published(link);
        let begin = Instant::now();
        let complaining = async {
            while source.renewals() < 2 {
                refused.notify_one();
                tokio::task::yield_now().await;
            }
        };
        eventually("it is renewed twice", complaining).await;
        assert!(begin.elapsed() >= RENEWAL_PAUSE, "{:?}", begin.elapsed());
    }

    #[test]
    fn no_credential_and_why_is_handed_over_too() {
        let none = Err(CredentialError::new("the plugin failed"));
        let said = HandedCredential::from(&none).said().unwrap();
        assert_eq!(said.unwrap_err().message, "the plugin failed");
    }
}
