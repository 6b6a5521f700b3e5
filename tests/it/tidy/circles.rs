//! Which files need each other in a circle, so that none of them can be read, or changed, alone.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{BENCHES, SIMULATOR, Source, words};

/// The programs whose files are looked at, by the folder of their root. A file belongs to the innermost.
const PROGRAMS: &[&str] = &["src/", SIMULATOR, BENCHES];

/// A module's path from its program's root.
type Module = Vec<String>;

/// The sets of files that can each be reached from each other by what they name. What a file needs of those above it does not
/// count there: a parent that is in a circle with its children stands for itself, or one of them would make all of its
/// children a single circle that says nothing.
pub fn circles(sources: &[Source]) -> Vec<BTreeSet<String>> {
    PROGRAMS.iter().flat_map(|program| circles_in(program, sources)).collect()
}

fn circles_in(program: &str, sources: &[Source]) -> BTreeSet<BTreeSet<String>> {
    let tree = Tree::of(program, sources);
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        tree.files.keys().map(|module| (module, tree.reached_from(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, others) in &reached {
        let circle: BTreeSet<String> = others
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(*module)))
            .map(|other| tree.files[other].path.clone())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    for (child, parents) in &tree.needs_above {
        for parent in
            parents.iter().filter(|parent| reached.get(parent).is_some_and(|below| below.contains(child)))
        {
            circles.insert(BTreeSet::from([tree.files[parent].path.clone()]));
        }
    }
    circles
}

/// All files of one program, and what each needs.
struct Tree<'a> {
    files: BTreeMap<Module, &'a Source>,
    /// Names that a module takes from a child: what is asked of the parent is the child's then.
    taken: BTreeMap<(Module, String), Vec<String>>,
    needs: BTreeMap<Module, BTreeSet<Module>>,
    /// What it needs of the modules that it is a part of.
    needs_above: BTreeMap<Module, BTreeSet<Module>>,
}

impl<'a> Tree<'a> {
    fn of(program: &str, sources: &'a [Source]) -> Self {
        let own = sources.iter().filter(|source| program_of(&source.path) == Some(program));
        let files = own.map(|source| (module_of(&source.path[program.len()..]), source)).collect();
        let mut tree =
            Self { files, taken: BTreeMap::new(), needs: BTreeMap::new(), needs_above: BTreeMap::new() };
        for (module, source) in tree.files.clone() {
            for path in
                tree.paths_to_children(&module, &source.code).into_iter().filter(|path| path.is_import)
            {
                if let Some(name) = path.names.last() {
                    tree.taken.insert((module.clone(), name.clone()), path.names.clone());
                }
            }
        }
        for (module, source) in tree.files.clone() {
            let needs = tree.needs_of(&module, &source.code);
            let (above, others) = needs.into_iter().partition(|need| module.starts_with(need));
            tree.needs_above.insert(module.clone(), above);
            tree.needs.insert(module, others);
        }
        tree
    }

    fn needs_of(&self, module: &Module, code: &str) -> BTreeSet<Module> {
        let mut needs: BTreeSet<Module> =
            paths_upward(module, code).into_iter().map(|(base, names)| self.home_of(base, &names)).collect();
        let own = self.paths_to_children(module, code).into_iter().filter(|path| !path.is_deferred);
        needs.extend(own.map(|path| self.home_of(module.clone(), &path.names)));
        needs.remove(module);
        needs
    }

    /// Where a path that begins at a module leads: the module whose own name its last known part is.
    fn home_of(&self, base: Module, names: &[String]) -> Module {
        let (mut at, mut rest) = (base, names);
        while let Some((name, further)) = rest.split_first() {
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            if self.files.contains_key(&child) {
                (at, rest) = (child, further);
            } else if let Some(taken) = self.taken.get(&(at.clone(), name.clone())) {
                return self.home_of(at, taken);
            } else {
                break;
            }
        }
        at
    }

    fn paths_to_children(&self, module: &Module, code: &str) -> Vec<ToChild> {
        let children =
            self.files.keys().filter(|it| it.split_last().is_some_and(|(_, parent)| parent == module));
        let mut found = Vec::new();
        for child in children.filter_map(|child| child.last()) {
            let begins =
                |&at: &usize| code[at + child.len()..].starts_with("::") && !code[..at].ends_with("super::");
            for at in words(code, child).filter(begins) {
                let line = code[code[..at].rfind('\n').map_or(0, |end| end + 1)..at].trim();
                let is_import = line.ends_with("use") || line.ends_with("use self::");
                let is_deferred = is_import && line.starts_with("pub");
                let names = paths(&code[at..]).into_iter();
                found.extend(names.map(|names| ToChild { names, is_import, is_deferred }));
            }
        }
        found
    }

    fn reached_from(&self, module: &Module) -> BTreeSet<Module> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![module]);
        while let Some(next) = open.pop() {
            for need in self.needs.get(next).into_iter().flatten() {
                if reached.insert(need.clone()) {
                    open.push(need);
                }
            }
        }
        reached
    }
}

/// A path that begins with the name of a child.
struct ToChild {
    names: Vec<String>,
    is_import: bool,
    /// `pub use`: for others, not for this file.
    is_deferred: bool,
}

fn program_of(path: &str) -> Option<&'static str> {
    let around = PROGRAMS.iter().copied().filter(|program| path.starts_with(program));
    around.max_by_key(|program| program.len())
}

/// The module of a file, by its path from its program's root.
fn module_of(path: &str) -> Module {
    let inside = path.trim_end_matches(".rs").trim_end_matches("/mod");
    inside.split('/').filter(|part| !matches!(*part, "lib" | "main")).map(str::to_owned).collect()
}

/// What begins with `crate::`, `self::` or any number of `super::`, by the module that it begins at.
fn paths_upward(module: &Module, code: &str) -> Vec<(Module, Vec<String>)> {
    let mut found = Vec::new();
    for (root, up) in [("crate", module.len()), ("self", 0), ("super", 1)] {
        for at in words(code, root).filter(|&at| !code[..at].ends_with("::")) {
            let Some(mut tail) = code[at + root.len()..].strip_prefix("::") else { continue };
            let mut up = up;
            while let Some(further) = tail.strip_prefix("super::") {
                (tail, up) = (further, up + 1);
            }
            let base = module[..module.len().saturating_sub(up)].to_vec();
            found.extend(paths(tail).into_iter().map(|names| (base.clone(), names)));
        }
    }
    found
}

/// The paths that begin here: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    read_path(code, &[], &mut found);
    found
}

/// Reads one path, or a group of them, and answers what follows.
fn read_path<'a>(code: &'a str, before: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    if let Some(mut group) = code.strip_prefix('{') {
        loop {
            group = group.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if group.is_empty() || group.starts_with('}') {
                return group.get(1..).unwrap_or_default();
            }
            let rest = read_path(group, before, found);
            // Whatever is no path at all is passed over.
            group = if rest.len() < group.len() {
                rest
            } else {
                &group[group.chars().next().map_or(0, char::len_utf8)..]
            };
        }
    }
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    let names = if end == 0 { before.to_vec() } else { [before, &[code[..end].to_owned()]].concat() };
    match code[end..].strip_prefix("::") {
        Some(further) if end > 0 => read_path(further, &names, found),
        _ => {
            found.push(names);
            let rest = code[end..].strip_prefix(" as ");
            rest.map_or(&code[end..], |alias| {
                alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
            })
        }
    }
}
