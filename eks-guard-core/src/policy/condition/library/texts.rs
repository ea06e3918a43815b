//! Functions of texts that the CEL crate has with another meaning than Kubernetes.

use cel::common::functions::Function;
use cel::common::types::{CelInt, CelString, CelTimestamp, DYN_TYPE, INT_TYPE, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};

use crate::policy::condition::library::signatures::{INDEX_FROM, LAST_INDEX_FROM, STRING};
use crate::policy::condition::library::{
    Answer, Arguments, env, no_overload, number, rejected, string, text,
};

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let functions: [(&str, Function); 2] = [(INDEX_FROM, index_from), (LAST_INDEX_FROM, last_index_from)];
    for (name, run) in functions {
        env.add_member_overload(name, name, STRING_TYPE, vec![STRING_TYPE, INT_TYPE], run)?;
    }
    env.add_overload(STRING, STRING, vec![DYN_TYPE], string_of)
}

/// The crate's own, but for points in time: they keep the zone that they were written in.
fn string_of<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let time = arguments
        .first()
        .and_then(|it| it.as_ref().downcast_ref::<CelTimestamp>());
    let time = time.map(|it| *it.inner());
    let Some((time, offset)) = time.map(|it| (it, it.offset().local_minus_utc())) else {
        return crates_own(arguments);
    };
    if offset == 0 {
        return crates_own(arguments);
    }
    let clock = (time.to_utc() + chrono::Duration::seconds(offset.into())).fixed_offset();
    let written = crates_own(vec![CowVal::owned(CelTimestamp::from(clock))])?;
    let written = written
        .as_ref()
        .downcast_ref::<CelString<'_>>()
        .ok_or_else(no_overload)?;
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
    let clock = written.inner().trim_end_matches('Z');
    string(format!("{clock}{sign}{:02}:{:02}", minutes / 60, minutes % 60))
}

fn crates_own<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let run = env()
        .find_overload("string", &arguments)
        .ok_or_else(no_overload)?;
    run(arguments)
}

fn index_from<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let search = Search::of(&arguments)?;
    let places = search.from..=search.last();
    search.answer(places.into_iter().find(|place| search.is_at(*place)))
}

fn last_index_from<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let search = Search::of(&arguments)?;
    let places = 0..=search.from.min(search.last());
    search.answer(places.rev().find(|place| search.is_at(*place)))
}

/// A text that is looked for in another from some place on; places count characters.
struct Search {
    text: Vec<char>,
    wanted: Vec<char>,
    from: i64,
}

impl Search {
    /// # Errors
    /// The place is before the text.
    fn of(arguments: &Arguments<'_, '_>) -> Result<Self, ExecutionError> {
        let from = arguments
            .get(2)
            .and_then(|it| it.as_ref().downcast_ref::<CelInt>());
        let search = Self {
            text: text(arguments, 0)?.chars().collect(),
            wanted: text(arguments, 1)?.chars().collect(),
            from: *from.ok_or_else(no_overload)?.inner(),
        };
        if search.from < 0 && !search.wanted.is_empty() {
            return Err(rejected("indexOf"));
        }
        Ok(search)
    }

    /// The last place where it may begin; before the text when it is longer.
    fn last(&self) -> i64 {
        let length = |chars: &[char]| i64::try_from(chars.len()).unwrap_or(i64::MAX);
        length(&self.text) - length(&self.wanted)
    }

    fn is_at(&self, place: i64) -> bool {
        let rest = usize::try_from(place)
            .ok()
            .and_then(|place| self.text.get(place..));
        rest.is_some_and(|rest| rest.starts_with(&self.wanted))
    }

    /// Nothing is found where the search begins, wherever that is; anything else not behind the end.
    fn answer<'b, 'v>(&self, found: Option<i64>) -> Answer<'b, 'v> {
        let is_inside = usize::try_from(self.from).is_ok_and(|from| from < self.text.len());
        number(match found {
            _ if self.wanted.is_empty() => self.from,
            Some(place) if is_inside => place,
            Some(_) | None => -1,
        })
    }
}
