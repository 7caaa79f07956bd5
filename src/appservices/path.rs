//! Classifies a request's path. Pure.
//!
//! Only unambiguous paths are accepted. A path that a backend could normalize to another one (dot segments, encoded
//! slashes in the part that decides, a backslash) is refused as malformed, so no spelling leads to another class or app
//! than the one that was checked.

/// The kind of resource that a path addresses. Sources: `realm-core` (`app.cpp`, `sync/client.cpp`); App Services,
/// *Data API* and *Custom HTTPS Endpoints*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathClass {
    /// Client HTTP requests: `/api/client/v2.0/…`.
    ClientHttp,
    /// Device Sync's WebSocket: `/api/client/v2.0/app/{app}/realm-sync`.
    Sync,
    /// The Data API: `/app/{app}/endpoint/data/v1/…`.
    DataApi,
    /// Custom HTTPS endpoints: `/app/{app}/endpoint/…`, and the webhooks that preceded them.
    CustomHttps,
    /// The Admin API: `/api/admin/…`.
    Admin,
    /// Anything else.
    Unknown,
}

impl PathClass {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::ClientHttp, Self::Sync, Self::DataApi, Self::CustomHttps, Self::Admin, Self::Unknown];
}

/// A parsed path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    pub(crate) class: PathClass,
    /// The client app id, if the path has one.
    pub(crate) app: Option<&'a str>,
}

/// The path can be interpreted in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// The SDKs' base path.
const CLIENT: &str = "/api/client/v2.0";

/// Parses a path (without its query).
///
/// # Errors
///
/// [`Ambiguous`] when a backend could normalize it to another path.
pub(crate) fn route(path: &str) -> Result<Route<'_>, Ambiguous> {
    if !path.starts_with('/') {
        return Err(Ambiguous);
    }
    let route = classify(path);
    if !is_plain(path) {
        check_spelling(path, route)?;
    }
    Ok(route)
}

/// Whether a path, which starts with a slash, has no special characters, as most do. One pass over it.
fn is_plain(path: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let is_edge = |b: u8| matches!(b, b'/' | b'.');
    let follows = |pair: &[u8]| is_word(pair[1]) || (is_edge(pair[1]) && !is_edge(pair[0]));
    path.as_bytes().windows(2).all(follows) && !path.ends_with('.')
}

/// Maximum number of decodings after which a path must not change any more.
const MAX_DECODINGS: usize = 4;

/// The slow check, for paths with special characters. The path must have one meaning, however often a backend decodes
/// it, and whether it drops parameters, folds case or trims segments.
fn check_spelling(path: &str, route: Route<'_>) -> Result<(), Ambiguous> {
    if has_broken_escape(path.as_bytes()) {
        return Err(Ambiguous);
    }
    let mut spelled = path.as_bytes().to_vec();
    for _ in 0..MAX_DECODINGS {
        check_one(&spelled, route)?;
        let decoded = decode(&spelled);
        if decoded == spelled {
            return Ok(());
        }
        spelled = decoded;
    }
    Err(Ambiguous)
}

/// Checks one decoding of a path.
fn check_one(spelled: &[u8], route: Route<'_>) -> Result<(), Ambiguous> {
    if spelled.iter().any(|b| *b == b'\\' || b.is_ascii_control()) || has_overlong(spelled) {
        return Err(Ambiguous);
    }
    let mut segments = spelled.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        // Some servers cut a segment at `;` and then drop empty ones.
        let bare = segment.split(|b| *b == b';').next().unwrap_or_default();
        let may_be_empty = segment.is_empty() && segments.peek().is_none();
        if bare == b"." || bare == b".." || (bare.is_empty() && !may_be_empty) {
            return Err(Ambiguous);
        }
    }
    let text = String::from_utf8_lossy(spelled);
    let bare = without_parameters(&text);
    if classify(&text) != route || classify(&bare) != route {
        return Err(Ambiguous);
    }
    // An unknown path is not served under any class, so it may change when folded.
    let folds = |path: &str| classify(&folded(path)).class == route.class;
    if route.class != PathClass::Unknown && !(folds(&text) && folds(&bare)) {
        return Err(Ambiguous);
    }
    Ok(())
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
}

/// A path as read by a backend that ignores case and full-width forms, and trims segments.
fn folded(path: &str) -> String {
    let half_width = |c: char| match u32::from(c) {
        wide @ 0xff01..=0xff5e => char::from_u32(wide - 0xff01 + 0x21).unwrap_or(c),
        _ => c,
    };
    // Through upper case, as U+017F and U+212A map to ASCII letters in the other case.
    let text: String = path.chars().map(half_width).flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    let is_margin = |c: char| {
        c.is_whitespace() || matches!(c, '.' | '+' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let segments = text.split('/').map(|segment| segment.trim_matches(is_margin)).filter(|segment| !segment.is_empty());
    segments.fold(String::new(), |path, segment| path + "/" + segment)
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let [high, low, ..] = bytes else { return None };
    Some(hex(*high)? << 4 | hex(*low)?)
}

fn has_broken_escape(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes[at] == b'%' && hex_pair(&bytes[at + 1..]).is_none())
}

/// Decodes once; anything that is not an escape stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        match hex_pair(tail).filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Whether bytes contain an overlong encoding, which lenient decoders accept (RFC 3629 §3, §10).
fn has_overlong(bytes: &[u8]) -> bool {
    bytes.iter().any(|b| matches!(b, 0xc0 | 0xc1 | 0xf8..=0xfd))
        || bytes.windows(2).any(|pair| matches!(pair, [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]))
}

fn classify(path: &str) -> Route<'_> {
    let of = |class, app| Route { class, app };
    if let Some(rest) = below(path, CLIENT) {
        let Some(rest) = below(rest, "/app") else { return of(PathClass::ClientHttp, None) };
        let mut segments = rest.split('/').skip(1);
        let app = segments.next().filter(|app| !app.is_empty());
        let class = match (segments.next(), segments.next(), segments.next()) {
            _ if app.is_none() => PathClass::Unknown,
            (Some("realm-sync"), ..) => PathClass::Sync,
            (Some("service"), Some(_), Some("incoming_webhook")) => PathClass::CustomHttps,
            _ => PathClass::ClientHttp,
        };
        return of(class, app);
    }
    if let Some(rest) = below(path, "/app") {
        let mut segments = rest.split('/').skip(1);
        let app = segments.next().filter(|app| !app.is_empty());
        // The Data API is checked first: its paths are also those of custom endpoints.
        let class = match (segments.next(), segments.next(), segments.next()) {
            _ if app.is_none() => PathClass::Unknown,
            (Some("endpoint"), Some("data"), Some("v1")) => PathClass::DataApi,
            (Some("endpoint"), Some(_), _) => PathClass::CustomHttps,
            _ => PathClass::Unknown,
        };
        return of(class, app);
    }
    let class = if below(path, "/api/admin").is_some() { PathClass::Admin } else { PathClass::Unknown };
    of(class, None)
}

/// The part of `path` after `prefix`, if `path` is at or below it.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(path: &str) -> (PathClass, Option<&str>) {
        let route = route(path).unwrap_or_else(|Ambiguous| panic!("{path} is ambiguous"));
        (route.class, route.app)
    }

    /// B6: each class by its path; the Data API before custom endpoints, whose prefix it shares.
    #[test]
    fn each_class_has_its_paths() {
        use PathClass::{Admin, ClientHttp, CustomHttps, DataApi, Sync, Unknown};
        let app = Some("myapp-abcde");
        for (path, expected) in [
            ("/api/client/v2.0/app/myapp-abcde/location", (ClientHttp, app)),
            ("/api/client/v2.0/app/myapp-abcde/functions/call", (ClientHttp, app)),
            ("/api/client/v2.0/app/myapp-abcde", (ClientHttp, app)),
            ("/api/client/v2.0/auth/session", (ClientHttp, None)),
            ("/api/client/v2.0/app/myapp-abcde/realm-sync", (Sync, app)),
            ("/api/client/v2.0/app/myapp-abcde/realm-sync/", (Sync, app)),
            ("/api/client/v2.0/app/myapp-abcde/realm-synch", (ClientHttp, app)),
            ("/api/client/v2.0/app/myapp-abcde/service/http/incoming_webhook/hook", (CustomHttps, app)),
            ("/api/client/v2.0/app/", (Unknown, None)),
            ("/app/myapp-abcde/endpoint/data/v1/action/findOne", (DataApi, app)),
            ("/app/myapp-abcde/endpoint/data/v1", (DataApi, app)),
            ("/app/myapp-abcde/endpoint/data/v2", (CustomHttps, app)),
            ("/app/myapp-abcde/endpoint/greet", (CustomHttps, app)),
            ("/app/myapp-abcde/endpoint", (Unknown, app)),
            ("/api/admin/v3.0/groups/5f/apps", (Admin, None)),
            ("/api/administration", (Unknown, None)),
            ("/api/client/v1.0/app/myapp-abcde/location", (Unknown, None)),
            ("/API/client/v2.0/app/myapp-abcde/location", (Unknown, None)),
            ("/", (Unknown, None)),
        ] {
            assert_eq!(read(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        for path in [
            "/api/client/v2.0/app/a-aaaaa/../b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa/%2e%2e/b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa/%252e%252e/b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa/.%2e/b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa/..;x/b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa%2f..%2fb-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa%2flocation",
            "/api/client/v2.0/app/a%2daaaaa/location",
            "/api/client/v2.0/app/a-aaaaa;b/location",
            "/api/client/v2.0/app/a-aaaaa/realm%2dsync",
            "/api/client/v2.0/app/a-aaaaa/realm-sync;x",
            "/api/client/v2.0/app//a-aaaaa/location",
            "//api/client/v2.0/app/a-aaaaa/location",
            "/./api/client/v2.0/app/a-aaaaa/location",
            "/api/client/v2.0/app/a-aaaaa\\..\\b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa/%5c../location",
            "/api/client/v2.0/app/a-aaaaa/location%00",
            "/api/client/v2.0/app/a-aaaaa/%zz",
            "/api/client/v2.0/app/a-aaaaa/%2",
            "/app/a-aaaaa/endpoint/%64ata/v1",
            "/api/client/v2.0/app/a-aaaaa/;/realm-sync",
            "/api/client/v2.0/app/a-aaaaa/;x/realm-sync",
            "/api/client/v2.0/app/a-aaaaa/%3b/realm-sync",
            "/api/client/v2.0/app/a-aaaaa/location/;",
            "/api/client/v2.0/app/a-aaaaa/Realm-Sync",
            "/api/client/v2.0/app/a-aaaaa/REALM-SYNC",
            "/api/client/v2.0/app/a-aaaaa/realm-sync.",
            "/api/client/v2.0/app/a-aaaaa/realm-sync%20",
            "/api/client/v2.0/app/a-aaaaa/%20realm-sync",
            "/api/client/v2.0/app/a-aaaaa/realm-sync%c2%a0",
            "/api/client/v2.0/app/a-aaaaa/realm-%c5%bfync",
            "/api/client/v2.0/app/a-aaaaa/%20/realm-sync",
            "/api/client/v2.0/app/a-aaaaa/realm%ef%bc%8dsync",
            "/api/client/v2.0/app/a-aaaaa/service/x/Incoming_Webhook/y",
            "/app/a-aaaaa/endpoint/Data/v1/action",
            "/app/a-aaaaa/endpoint/data/V1/action",
            "/api/client/v2.0/app/a-aaaaa/%c0%ae%c0%ae/b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa/x%c0%afy",
            "/api/client/v2.0/app/a-aaaaa/x%e0%80%afy",
            "/api/client/v2.0/app/a-aaaaa/x%f0%80%80%afy",
            "/api/client/v2.0/app/a-aaaaa/%25252e%25252e/b-bbbbb/location",
            "/api/client/v2.0/app/a-aaaaa/%2525252525252e/location",
            "/api/client/v2.0/app/a-aaaaa/%252e%252e/location%25zz",
            "*",
            "",
        ] {
            assert_eq!(route(path), Err(Ambiguous), "{path}");
        }
    }

    #[test]
    fn escapes_that_change_nothing_pass() {
        assert_eq!(read("/api/client/v2.0/app/a-aaaaa/auth/a%20b%2Fc").1, Some("a-aaaaa"));
        assert_eq!(read("/app/a-aaaaa/endpoint/caf%C3%A9/100%25").0, PathClass::CustomHttps);
        assert_eq!(read("/app/a-aaaaa/endpoint/v1.2/.well-known").0, PathClass::CustomHttps);
        assert_eq!(read("/app/a-aaaaa/endpoint/data/v1/action/findOne").0, PathClass::DataApi);
        assert_eq!(read("/api/client/v2.0/app/a-aaaaa/functions/Call.").0, PathClass::ClientHttp);
    }

    /// The ways in which a backend may normalize a path.
    fn normalize(path: &str, decodings: usize, folds: bool) -> String {
        let mut text = path.to_owned();
        for _ in 0..decodings {
            text = String::from_utf8_lossy(&decode(text.as_bytes())).into_owned();
        }
        if folds {
            text = text.to_lowercase();
        }
        let mut kept: Vec<&str> = Vec::new();
        for segment in text.split(['/', '\\']).skip(1) {
            let bare = segment.split(';').next().unwrap_or_default();
            let trimmed = bare.trim_end_matches([' ', '.']);
            match if folds && !trimmed.is_empty() { trimmed } else { bare } {
                "" | "." => {}
                ".." => {
                    kept.pop();
                }
                bare => kept.push(bare),
            }
        }
        format!("/{}", kept.join("/"))
    }

    proptest! {
        #[test]
        fn a_backend_reads_a_path_as_the_gateway_checked_it(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "/", "api", "client", "v2.0", "/api/client/v2.0/app/", "/app/", "a-aaaaa", "b-bbbbb", "endpoint", "data",
                "/endpoint/data/v1", "/realm-sync", "realm-sync", "..", ".", "%2e", "%2E%2e", "%252e", "%2f", "%5c", "\\",
                ";", ";x", "//", "location", "%61", "%", "/api/admin", "service/x/incoming_webhook", "%25",
                "/;/", "Realm-Sync", "realm-sync.", "realm-sync%20", "%20", "%25252e", "/Endpoint/Data/v1",
            ]), 0..10),
            decodings in 0_usize..4,
            folds in any::<bool>(),
        ) {
            let path = format!("/{}", pieces.concat());
            if is_plain(&path) {
                prop_assert_eq!(check_spelling(&path, classify(&path)), Ok(()), "{}", path);
            }
            if let Ok(judged) = route(&path) && judged.class != PathClass::Unknown {
                let seen = normalize(&path, decodings, folds);
                prop_assert_eq!(classify(&seen).class, judged.class, "{} {}", path, seen);
                if !folds {
                    prop_assert_eq!(classify(&seen), judged, "{}", path);
                }
            }
        }
    }
}
