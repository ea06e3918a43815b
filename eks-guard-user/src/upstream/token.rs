//! A bearer token as it goes upstream.

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::upstream::Credential;

/// A bearer token as a header value that no log shows.
pub(super) fn bearer(token: &str) -> Result<Credential, &'static str> {
    let token = token.trim();
    if token.is_empty() {
        return Err("the token is empty");
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the token holds characters that no token has; copy it again");
    }
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| "the token cannot stand in a header")?;
    value.set_sensitive(true);
    Ok(Credential::Bearer(value))
}
