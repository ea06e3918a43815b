//! Rows about AWS and credentials (A).

use crate::catalogue::kinds::Row;

/// AWS and credentials.
pub(crate) const ROWS: &[Row] = &[
    Row::probe(
        "A01",
        "the instance metadata service, IPv4 and IPv6",
        "not closed by `run`: no instance role, or one without rights, on such machines",
    ),
    Row::probe(
        "A02",
        "the Pod Identity agent, IPv4 and IPv6",
        "not closed by `run`: it answers on nodes only",
    ),
    Row::elsewhere(
        "A03",
        "a token presigned offline",
        "there is no way to present it: the guard drops what the agent presents",
        "refusals a_stolen_admin_token_is_worth_nothing",
    ),
    Row::configuration(
        "A04",
        "other AWS services that change the cluster",
        "no credential in the tree",
        "deny them to the roles within reach of this machine",
    ),
    Row::configuration(
        "A05",
        "a ServiceAccount token used from elsewhere",
        "no credential in the tree",
        "a private endpoint; tokens that are bound and short-lived",
    ),
    Row::elsewhere(
        "A06",
        "a kubeconfig in an image, a variable or a job",
        "the guard drops what the agent presents",
        "refusals a_stolen_admin_token_is_worth_nothing",
    ),
];
