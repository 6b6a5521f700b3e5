//! Breadth first through every world that can be reached.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

use super::promises::{broken_by, broken_in};
use super::steps::{Rules, Table};
use super::world::{Scope, World};

/// More than this takes too long for a test: the scope is too wide.
const MAX_WORLDS: usize = 30_000_000;

/// How many worlds were seen, or the shortest story that breaks a promise.
pub(super) fn explore(table: &Table, scope: &Scope) -> Result<usize, String> {
    let rules = Rules { table, scope };
    let mut explorer = Explorer { rules, seen: Seen::default(), found: Vec::new() };
    explorer.find(World::fresh(scope), 0);
    let mut next = 0;
    while next < explorer.found.len() {
        assert!(next < MAX_WORLDS, "too many worlds: {scope:?}");
        explorer.expand(next)?;
        next += 1;
    }
    explorer.check_that_all_end()?;
    Ok(explorer.found.len())
}

struct Explorer<'a> {
    rules: Rules<'a>,
    seen: Seen,
    /// Each world, and the index of the one it was first reached from.
    found: Vec<(World, u32)>,
}

impl Explorer<'_> {
    fn find(&mut self, world: World, from: usize) -> bool {
        let is_new = self.seen.insert(world.key());
        if is_new {
            self.found.push((world, u32::try_from(from).expect("fewer worlds than that")));
        }
        is_new
    }

    fn expand(&mut self, index: usize) -> Result<(), String> {
        let (world, _) = self.found[index];
        let mut broken = None;
        world.steps(self.rules, |_, next| {
            let in_itself = if self.find(next, index) { broken_in(&next, self.rules.scope) } else { None };
            if let Some(promise) = broken_by(&world, &next).or(in_itself) {
                broken.get_or_insert((promise, next));
            }
        });
        match broken {
            None => Ok(()),
            Some((promise, next)) => Err(self.story(promise, index, Some(next))),
        }
    }

    /// Left alone, every world comes to its end: no message goes around forever.
    fn check_that_all_end(&self) -> Result<(), String> {
        let mut walks = Walks::default();
        for (walk, (world, _)) in self.found.iter().enumerate() {
            let mut at = Some(*world);
            while let Some(world) = at {
                match walks.insert(world.key(), walk) {
                    None => at = world.left_alone(self.rules),
                    // An earlier walk came by here, and ended.
                    Some(earlier) if earlier != walk => break,
                    Some(_) => return Err(self.story("left alone, everything ends", walk, None)),
                }
            }
        }
        Ok(())
    }

    /// The way to a world, step by step.
    fn story(&self, promise: &str, index: usize, last: Option<World>) -> String {
        let mut way = vec![index];
        while let Some(&earliest) = way.last().filter(|&&earliest| earliest != 0) {
            way.push(self.found[earliest].1 as usize);
        }
        let mut worlds: Vec<World> = way.iter().rev().map(|&index| self.found[index].0).collect();
        worlds.extend(last);

        let mut story = format!("broken: {promise}\n    {}\n", worlds[0]);
        for pair in worlds.windows(2) {
            let mut how = None;
            pair[0].steps(self.rules, |step, next| how = how.or((next == pair[1]).then_some(step)));
            if let Some(step) = how {
                let _ = writeln!(story, "{step}\n    {}", pair[1]);
            }
        }
        story
    }
}

type Seen = HashSet<u128, BuildHasherDefault<Mix>>;
type Walks = HashMap<u128, usize, BuildHasherDefault<Mix>>;

/// Multiply and fold. The keys are our own, so nobody can aim at collisions, and the standard hasher would take a third
/// of the time.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole keys are hashed");
    }

    fn write_u128(&mut self, key: u128) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let high = ((key >> 64) as u64).wrapping_mul(ODD).rotate_left(32);
        let product = u128::from(key as u64 ^ high) * u128::from(ODD);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
