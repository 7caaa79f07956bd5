//! `tests/CONFORMANCE.md` and the table of `docs/api.md` match the code.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Net, TestGateway};

/// One line of the map: a documented behaviour.
struct Row {
    id: String,
    state: String,
    /// Tests, as `file::name`.
    tests: Vec<(String, String)>,
    why: String,
}

#[test]
fn every_documented_behaviour_is_in_the_map_once_with_a_state_and_a_reason() {
    let rows = rows();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let numbered = |letter: char, last: u32| (1..=last).map(move |n| format!("{letter}{n}"));
    let expected: Vec<String> =
        numbered('A', 33).chain(numbered('B', 14)).chain(numbered('C', 9)).chain(numbered('D', 30)).collect();
    assert_eq!(ids, expected);
    for Row { id, state, tests, why } in &rows {
        match state.as_str() {
            "met" => assert!(tests.iter().any(|(file, _)| file.starts_with("tests/")), "{id}: no test from outside"),
            "in part" => {
                assert!(!tests.is_empty() && !why.is_empty(), "{id}: a test for the part, and what is missing")
            }
            "not yet" => assert!(!why.is_empty(), "{id}: no reason"),
            other => panic!("{id}: `{other}` is no state: met, in part, not yet"),
        }
    }
}

#[test]
fn every_test_that_the_map_names_exists_and_cites_the_behaviour() {
    let mut files = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in rows() {
        for (file, name) in &row.tests {
            let text = files.entry(file.clone()).or_insert_with(|| read(Path::new(file)));
            match definition(text, name) {
                None => wrong.push(format!("{}: there is no {file}::{name}", row.id)),
                Some(comment) if cites(&comment, &row.id) || cites(head(text), &row.id) => {}
                Some(_) => wrong.push(format!("{}: neither {file}::{name} nor the file's head cites it", row.id)),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The table of the admin API in `docs/api.md` has the routes that answer, with their methods.
#[tokio::test]
async fn the_readmes_admin_api_answers() {
    let routes = table("docs/api.md", "| request ");
    assert!(routes.len() >= 8, "{routes:?}");
    let net = Net::claim();
    let gateway = TestGateway::start_with(net, |config| {
        config.settings.admin = Some("127.0.0.1:0".parse().expect("an address"));
    })
    .await;
    let admin = gateway.gateway.admin_address().expect("the admin API listens");
    for cells in routes {
        let request = code(&cells[0]);
        let (method, path) = request.split_once(' ').unwrap_or_else(|| panic!("{request}: METHOD PATH"));
        let path = path.split('?').next().unwrap_or_default();
        let path = path.replace("{cluster}", "Cluster0").replace("{target}", "a").replace("{id}", "ffffffff");
        // A method that no route has is answered with the methods of the table.
        let allowed = allowed(admin, &path).await;
        let allowed = allowed.unwrap_or_else(|| panic!("{request}: nothing is allowed there"));
        assert!(allowed.split(", ").any(|known| known == method), "{request}: {allowed}");
    }
}

/// The `Allow` header of the answer to a request by a method that nothing takes.
async fn allowed(admin: std::net::SocketAddr, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(admin).await.expect("it listens");
    let request = format!("OPTIONS {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("allow: ").map(str::to_uppercase))
}

fn rows() -> Vec<Row> {
    table("tests/CONFORMANCE.md", "| # ")
        .into_iter()
        .map(|cells| {
            let [id, _, state, tests, why] = cells.try_into().expect("five cells");
            let named = codes(&tests).into_iter().map(|test| {
                let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{id}: `{test}` is no file::name"));
                (file.to_owned(), name.to_owned())
            });
            Row { tests: named.collect(), id, state, why }
        })
        .collect()
}

/// The cells of all tables with a head that begins with `head`.
pub(crate) fn table(file: &str, head: &str) -> Vec<Vec<String>> {
    let text = read(Path::new(file));
    let mut rows = Vec::new();
    let mut lines = text.lines();
    while lines.by_ref().any(|line| line.starts_with(head)) {
        for line in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
            let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
            rows.push(inner.split('|').map(|cell| cell.trim().to_owned()).collect());
        }
    }
    assert!(!rows.is_empty(), "{file} has no table that begins with {head:?}");
    rows
}

/// The text between backticks.
pub(crate) fn codes(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(crate) fn code(cell: &str) -> String {
    codes(cell).into_iter().next().unwrap_or_else(|| panic!("nothing between backticks in {cell:?}"))
}

pub(crate) fn read(file: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The comment of the function `name`: the lines above it in Rust, or its doc string in Python.
fn definition(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is = |line: &str, keyword: &str| {
        line.trim_start()
            .trim_start_matches("async ")
            .strip_prefix(keyword)
            .is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', '<'])))
    };
    if let Some(at) = lines.iter().position(|line| is(line, "fn ")) {
        let above = lines[..at].iter().rev().map(|line| line.trim());
        let above: Vec<&str> = above.take_while(|line| line.starts_with("///") || line.starts_with("#[")).collect();
        return Some(above.join("\n"));
    }
    let at = lines.iter().position(|line| is(line, "def "))?;
    let mut inside = lines[at + 1..].iter().map(|line| line.trim()).peekable();
    if !inside.peek().is_some_and(|line| line.starts_with("\"\"\"")) {
        return Some(String::new());
    }
    let mut comment = String::new();
    for line in inside {
        comment.push_str(line);
        comment.push('\n');
        if line.ends_with("\"\"\"") && (line.len() > 3 || comment.len() > 4) {
            break;
        }
    }
    Some(comment)
}

/// The comments of a file before its first line of code.
fn head(text: &str) -> &str {
    let end = text.find("\nuse ").or_else(|| text.find("\nimport ")).unwrap_or(0);
    &text[..end]
}

/// Whether `A1` is in `text`, by itself or as one of a span (`A9 to A13`).
fn cites(text: &str, id: &str) -> bool {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    if words.contains(&id) {
        return true;
    }
    let number = |word: &str| (word.get(..1)? == id.get(..1)?).then(|| word.get(1..)?.parse::<u32>().ok()).flatten();
    let wanted = number(id);
    words.windows(3).any(|span| match (number(span[0]), span[1], number(span[2])) {
        (Some(first), "to", Some(last)) => wanted.is_some_and(|n| (first..=last).contains(&n)),
        _ => false,
    })
}
