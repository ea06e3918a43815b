//! The options of a request as values: what its query says, each parameter as what it holds.

use std::collections::BTreeMap;

use crate::request_info::ApiRequest;
use crate::request_info::allow_list::{self, Kind};

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OptionValue<'a> {
    /// Text.
    Text(&'a str),
    /// On or off.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Each of the values given.
    Many(Vec<&'a str>),
}

impl ApiRequest {
    /// Every option of the query. Those of a DELETE move into its body, where there is one.
    pub(crate) fn query_options(&self) -> BTreeMap<&'static str, OptionValue<'_>> {
        let mut options = BTreeMap::new();
        for (name, value) in &self.query {
            let Some(kind) = allow_list::kind_of(name) else {
                continue;
            };
            match kind {
                Kind::DryRun | Kind::Argument | Kind::Ports => {
                    let values = options.entry(*name).or_insert(OptionValue::Many(Vec::new()));
                    if let OptionValue::Many(values) = values {
                        values.push(value.as_ref());
                    }
                }
                Kind::Switch | Kind::StrictSwitch | Kind::Presence => {
                    options.insert(*name, OptionValue::Switch(value != "false"));
                }
                Kind::Count | Kind::Seconds => {
                    let number = value.parse().map(OptionValue::Number);
                    options.insert(*name, number.unwrap_or(OptionValue::Text(value)));
                }
                Kind::Duration | Kind::Time | Kind::Choice(_) | Kind::Text => {
                    options.insert(*name, OptionValue::Text(value));
                }
                Kind::Forbidden => {}
            }
        }
        options
    }
}
