//! What a request's path asks for. Pure.
//!
//! Only paths that can be read in one way are let through: whatever a backend could take for another path (dot segments,
//! encoded slashes in the part that decides, a backslash) is malformed here, so that no spelling of a path leads into
//! another class or another app than the one that was judged.

/// What kind of thing a path asks for. Sources: `realm-core` (`app.cpp`, `sync/client.cpp`); App Services, *Data API* and
/// *Custom HTTPS Endpoints*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathClass {
    /// Client HTTP requests: `/api/client/v2.0/…`.
    ClientHttp,
    /// Device Sync's WebSocket: `/api/client/v2.0/app/{app}/realm-sync`.
    Sync,
    /// The Data API: `/app/{app}/endpoint/data/v1/…`.
    DataApi,
    /// Custom HTTPS endpoints: `/app/{app}/endpoint/…`, and the webhooks that they come from.
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

/// A path, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    /// What it asks for.
    pub(crate) class: PathClass,
    /// The client app id in it, if it has one.
    pub(crate) app: Option<&'a str>,
}

/// A path that can be read in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// The SDKs' base path.
const CLIENT: &str = "/api/client/v2.0";

/// Reads a path (without its query).
///
/// # Errors
///
/// [`Ambiguous`] when a backend could take it for another one.
pub(crate) fn route(path: &str) -> Result<Route<'_>, Ambiguous> {
    if !path.starts_with('/') || path.contains('\\') || path.bytes().any(|b| b.is_ascii_control()) {
        return Err(Ambiguous);
    }
    let route = classify(path);
    if path.contains('%') || path.contains(';') || path.contains("/.") || path.contains("//") {
        check_spelling(path, route)?;
    }
    Ok(route)
}

/// The slow way, for paths with anything peculiar: whoever decodes them once or twice must come to the same place.
fn check_spelling(path: &str, route: Route<'_>) -> Result<(), Ambiguous> {
    let once = decode(path.as_bytes())?;
    // What is no valid escape after one decoding stays as it is in a second.
    let twice = decode(&once).unwrap_or_else(|_| once.clone());
    for spelled in [path.as_bytes(), &once, &twice] {
        if spelled.iter().any(|b| *b == b'\\' || b.is_ascii_control()) {
            return Err(Ambiguous);
        }
        let mut segments = spelled.split(|b| *b == b'/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            // Some servers cut a segment at `;`.
            let bare = segment.split(|b| *b == b';').next().unwrap_or_default();
            if bare == b"." || bare == b".." || (segment.is_empty() && segments.peek().is_some()) {
                return Err(Ambiguous);
            }
        }
        let text = String::from_utf8_lossy(spelled);
        if classify(&text) != route || classify(&without_parameters(&text)) != route {
            return Err(Ambiguous);
        }
    }
    Ok(())
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
}

fn decode(bytes: &[u8]) -> Result<Vec<u8>, Ambiguous> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else { return Err(Ambiguous) };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Err(Ambiguous) };
        out.push(high << 4 | low);
        rest = tail;
    }
    Ok(out)
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
        // The Data API is tried first: its paths are custom endpoints' paths too.
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

/// What follows `prefix` in `path`, if `path` is at or below it.
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

    /// B6: each class by its path; the Data API before custom endpoints, whose prefix it has.
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
    }

    /// What a backend may do to a path before it looks at it.
    fn normalize(path: &str) -> String {
        let mut text = path.to_owned();
        for _ in 0..2 {
            if let Ok(decoded) = decode(text.as_bytes()) {
                text = String::from_utf8_lossy(&decoded).into_owned();
            }
        }
        let mut kept: Vec<&str> = Vec::new();
        for segment in text.split(['/', '\\']).skip(1) {
            match segment.split(';').next().unwrap_or_default() {
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
        fn whatever_a_backend_makes_of_a_path_it_is_what_was_judged(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "/", "api", "client", "v2.0", "/api/client/v2.0/app/", "/app/", "a-aaaaa", "b-bbbbb", "endpoint", "data",
                "/endpoint/data/v1", "/realm-sync", "realm-sync", "..", ".", "%2e", "%2E%2e", "%252e", "%2f", "%5c", "\\",
                ";", ";x", "//", "location", "%61", "%", "/api/admin", "service/x/incoming_webhook", "%25",
            ]), 0..10)
        ) {
            let path = format!("/{}", pieces.concat());
            if let Ok(judged) = route(&path) && judged.class != PathClass::Unknown {
                let seen = normalize(&path);
                let seen = classify(&seen);
                prop_assert_eq!(seen, judged, "{}", path);
            }
        }
    }
}
