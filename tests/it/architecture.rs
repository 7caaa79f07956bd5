//! Compares ARCHITECTURE.md's table of modules with the imports of the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::LazyLock;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The most files of a module that may import each other in a circle. The aim is 2 everywhere.
///
/// A path leads to the file that defines the name, whatever files hand it on; a `mod.rs` belongs to no circle: it is the
/// face of its folder.
const LARGEST_CIRCLE: [(&str, usize); 4] = [("data", 2), ("control", 2), ("appservices", 2), ("dns", 2)];

/// A path of modules or items below the crate, without `crate`.
type Names = Vec<String>;

/// One file of the crate without its test code.
#[derive(Debug, Default)]
struct Source {
    /// Every path of the crate that the file names.
    uses: BTreeSet<Names>,
    /// Its `use` imports under one name: name to path.
    imports: BTreeMap<String, Names>,
    /// Whether it is the `mod.rs` of a folder.
    is_face: bool,
}

/// The files of the crate by their module paths, from `lib.rs` along its `mod` lines.
static SOURCES: LazyLock<BTreeMap<Names, Source>> = LazyLock::new(|| {
    let mut sources = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"), Vec::new(), &mut sources);
    sources
});

/// Reads `file`, which is the module `module`, and the files that it declares.
fn read(file: &Path, module: Names, sources: &mut BTreeMap<Names, Source>) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut source = Source::default();
    let mut declared = Vec::new();
    walk(tokens, &module, &mut source, &mut declared);
    source.is_face = file.ends_with("mod.rs");
    sources.insert(module.clone(), source);
    let is_root = file.file_stem().is_some_and(|stem| stem == "lib" || stem == "mod");
    let folder = if is_root { file.parent().expect("a file has a folder").to_owned() } else { file.with_extension("") };
    for name in declared {
        let candidates = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
        let found: &PathBuf = candidates.iter().find(|path| path.exists()).expect("a declared module has a file");
        read(found, [module.as_slice(), &[name]].concat(), sources);
    }
}

/// Notes every path in `tokens`, which are in `module`, and every module that is declared with its own file.
fn walk(tokens: TokenStream, module: &Names, source: &mut Source, declared: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let rest = &tokens[at..];
        if is_test_attribute(rest) {
            at += 2 + item_length(&rest[2..]);
            continue;
        }
        match token {
            TokenTree::Ident(word) if word == "mod" => match rest {
                [_, TokenTree::Ident(name), TokenTree::Punct(end), ..] if end.as_char() == ';' => {
                    declared.push(name.to_string());
                }
                [_, TokenTree::Ident(name), TokenTree::Group(body), ..] => {
                    let inner = [module.as_slice(), &[name.to_string()]].concat();
                    walk(body.stream(), &inner, source, declared);
                    at += 2;
                }
                _ => {}
            },
            // How far something may be seen is no import: `pub(super)`, `pub(in super::super)`.
            TokenTree::Ident(word) if word == "pub" && matches!(rest, [_, TokenTree::Group(_), ..]) => at += 1,
            TokenTree::Ident(word) if word == "use" => {
                let end = rest.iter().position(|token| is_punct(token, ';')).unwrap_or(rest.len());
                for (path, name) in paths(&rest[1..end]) {
                    if let Some(path) = from_root(&path, module) {
                        source.imports.insert(name, path.clone());
                        source.uses.insert(path);
                    }
                }
                at += end;
                continue;
            }
            TokenTree::Ident(word) if word == "crate" || word == "super" || word == "self" => {
                for (path, _) in paths(rest) {
                    source.uses.extend(from_root(&path, module));
                }
                // Its segments are not separate paths: `super::super::x` is not `super::x`.
                while matches!(tokens.get(at + 1..at + 3), Some([a, b]) if is_punct(a, ':') && is_punct(b, ':'))
                    && matches!(tokens.get(at + 3), Some(TokenTree::Ident(_)))
                {
                    at += 3;
                }
            }
            TokenTree::Group(group) => walk(group.stream(), module, source, declared),
            _ => {}
        }
        at += 1;
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// Whether `tokens` begin with `#[cfg(test)]` or another condition that needs tests.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(attribute), ..] = tokens else { return false };
    let text = attribute.stream().to_string().replace(' ', "");
    is_punct(hash, '#') && (text == "cfg(test)" || text.starts_with("cfg(all(test,") || text == "test")
}

/// How many tokens the item at the start of `tokens` has: up to its first braces, its `;` or, of a field, its `,`.
fn item_length(tokens: &[TokenTree]) -> usize {
    let is_end = |token: &TokenTree| {
        is_punct(token, ';')
            || is_punct(token, ',')
            || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)
}

/// The paths at the start of `tokens`, each with the name that it has there: `a::{b, c as d}` are `a::b` and `a::c`.
fn paths(tokens: &[TokenTree]) -> Vec<(Names, String)> {
    let mut path = Names::new();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => {
                path.push(word.to_string());
                at += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let below = inner.split(|token| is_punct(token, ',')).flat_map(paths);
                return below.map(|(names, name)| ([path.as_slice(), &names].concat(), name)).collect();
            }
            _ => break,
        }
        match tokens.get(at..at + 2) {
            Some([a, b]) if is_punct(a, ':') && is_punct(b, ':') => at += 2,
            Some([TokenTree::Ident(word), TokenTree::Ident(name)]) if word == "as" => {
                return vec![(path, name.to_string())];
            }
            _ => break,
        }
    }
    let name = path.last().cloned().unwrap_or_default();
    if path.is_empty() { Vec::new() } else { vec![(path, name)] }
}

/// `path` from the crate's root, where it was written in `module`; `None` for paths into other crates.
fn from_root(path: &[String], module: &[String]) -> Option<Names> {
    let mut base = match path.first()?.as_str() {
        "crate" => Names::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        _ => return None,
    };
    let mut rest = &path[1..];
    while rest.first().is_some_and(|name| name == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend(rest.iter().filter(|name| *name != "self").cloned());
    (!base.is_empty()).then_some(base)
}

/// The file that defines `path`, followed through re-exports.
fn defining(path: &[String]) -> Option<Names> {
    let mut path = path.to_vec();
    // A name is handed on a few times at most.
    for _ in 0..8 {
        let length = (0..=path.len()).rev().find(|length| SOURCES.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let handed_on =
            rest.split_first().and_then(|(name, behind)| Some((SOURCES[module].imports.get(name)?, behind)));
        let Some((origin, behind)) = handed_on else { return Some(module.to_vec()) };
        path = [origin.as_slice(), behind].concat();
    }
    None
}

/// The largest set of nodes that all lead to each other, of those with more than one.
fn largest_circle(edges: &BTreeMap<Names, BTreeSet<Names>>) -> Vec<String> {
    let reached = |from: &Names| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(node) = open.pop() {
            for next in edges.get(&node).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&Names, BTreeSet<Names>> = edges.keys().map(|node| (node, reached(node))).collect();
    let circle = |node: &Names| {
        let mutual = reach[node].iter().filter(|other| reach.get(other).is_some_and(|back| back.contains(node)));
        mutual.map(|names| names.join("::")).collect::<Vec<_>>()
    };
    edges.keys().map(circle).max_by_key(Vec::len).filter(|files| files.len() > 1).unwrap_or_default()
}

/// The rows of the table of modules: module to its imports.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("the page");
    let rows = page.lines().skip_while(|line| !line.starts_with("| module | reads from |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let names = cells[2].split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "—");
            (cells[1].trim_matches('`').to_owned(), names.map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn the_table_of_modules_lists_exactly_what_each_module_imports() {
    let modules: BTreeSet<&String> = SOURCES.keys().filter(|path| path.len() == 1).map(|path| &path[0]).collect();
    assert!(modules.len() > 10, "the crate has modules: {modules:?}");
    let mut imports: BTreeMap<String, BTreeSet<String>> =
        modules.iter().map(|module| ((*module).clone(), BTreeSet::new())).collect();
    for (path, source) in SOURCES.iter().filter(|(path, _)| !path.is_empty()) {
        let others = source.uses.iter().map(|used| &used[0]).filter(|top| **top != path[0] && modules.contains(top));
        imports.get_mut(&path[0]).expect("a file lies in a module").extend(others.cloned());
    }
    let table = table();
    let wrong: Vec<String> = imports
        .iter()
        .filter(|(module, imported)| table.get(*module) != Some(imported))
        .map(|(module, imported)| format!("`{module}` imports {imported:?}, the table says {:?}", table.get(module)))
        .collect();
    assert!(wrong.is_empty(), "ARCHITECTURE.md:\n{}", wrong.join("\n"));
    let absent: Vec<&String> = table.keys().filter(|module| !modules.contains(module)).collect();
    assert!(absent.is_empty(), "ARCHITECTURE.md has modules that do not exist: {absent:?}");
    let order = |modules: &BTreeMap<String, BTreeSet<String>>| -> BTreeMap<Names, BTreeSet<Names>> {
        let one = |name: &String| vec![name.clone()];
        modules.iter().map(|(module, imported)| (one(module), imported.iter().map(one).collect())).collect()
    };
    assert_eq!(largest_circle(&order(&imports)), Vec::<String>::new(), "modules import each other in a circle");
}

#[test]
fn no_circle_of_imports_is_larger_than_its_module_may_have() {
    for (module, limit) in LARGEST_CIRCLE {
        let files =
            SOURCES.iter().filter(|(path, source)| path.first().is_some_and(|top| top == module) && !source.is_face);
        let edges: BTreeMap<Names, BTreeSet<Names>> = files
            .map(|(path, source)| {
                let used = source.uses.iter().filter_map(|used| defining(used));
                (path.clone(), used.filter(|used| used != path).collect())
            })
            .collect();
        assert!(edges.values().any(|used| !used.is_empty()), "`{module}` has files that import each other");
        let circle = largest_circle(&edges);
        assert!(
            circle.len() <= limit,
            "{} files of `{module}` import each other in a circle: {circle:?}",
            circle.len()
        );
    }
}
