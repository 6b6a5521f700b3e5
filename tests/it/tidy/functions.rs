//! Every function of a Rust file and how long it is, by a parser of Rust: whatever its signature, in modules, traits, `impl`s
//! and functions, and in the bodies of macros, which are only tokens to the compiler too until they are expanded.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Where `fn` is, from 1.
    pub line: usize,
    /// From `fn` to the brace that closes the body. Attributes and doc comments are not counted.
    pub lines: usize,
    /// Inside of a `#[cfg(test)]` item.
    pub in_tests: bool,
}

/// All functions of a file, in the order in which they end.
///
/// # Errors
/// Where the text is no Rust.
pub fn functions(text: &str) -> syn::Result<Vec<Function>> {
    let mut collector = Collector::default();
    collector.visit_file(&syn::parse_file(text)?);
    Ok(collector.found)
}

#[derive(Default)]
struct Collector {
    found: Vec<Function>,
    in_tests: bool,
}

impl Collector {
    fn add(&mut self, name: String, begin: proc_macro2::Span, end: proc_macro2::Span) {
        let line = begin.start().line;
        self.found.push(Function { name, line, lines: end.end().line + 1 - line, in_tests: self.in_tests });
    }

    fn add_parsed(&mut self, signature: &syn::Signature, body: &syn::Block) {
        self.add(signature.ident.to_string(), signature.fn_token.span, body.brace_token.span.close());
    }

    /// Visits what an item holds, knowing whether that is for tests only.
    fn within(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let before = self.in_tests;
        self.in_tests |= attributes.iter().any(is_cfg_test);
        visit(self);
        self.in_tests = before;
    }

    fn add_tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, tree) in trees.iter().enumerate() {
            match tree {
                TokenTree::Ident(word) if word == "fn" => self.add_tokens_of_function(&trees[at..]),
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                _ => {}
            }
        }
    }

    /// `trees` begin with `fn`. (`fn(u8) -> u8` is a type; in `fn $name` the name is still to come.)
    fn add_tokens_of_function(&mut self, trees: &[TokenTree]) {
        let name: String = match trees.get(1..3) {
            Some([TokenTree::Ident(name), _]) => name.to_string(),
            Some([TokenTree::Punct(dollar), TokenTree::Ident(name)]) if dollar.as_char() == '$' => {
                format!("${name}")
            }
            _ => return,
        };
        for tree in trees {
            match tree {
                TokenTree::Punct(end) if end.as_char() == ';' => return,
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                    return self.add(name, trees[0].span(), body.span_close());
                }
                _ => {}
            }
        }
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    let condition = attribute.meta.require_list().ok().filter(|list| list.path.is_ident("cfg"));
    condition.is_some_and(|list| list.tokens.to_string() == "test")
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(&item.attrs, |it| visit::visit_item_mod(it, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.within(&item.attrs, |it| visit::visit_item_impl(it, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(&item.attrs, |it| {
            visit::visit_item_fn(it, item);
            it.add_parsed(&item.sig, &item.block);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(&item.attrs, |it| {
            visit::visit_impl_item_fn(it, item);
            it.add_parsed(&item.sig, &item.block);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.within(&item.attrs, |it| {
            visit::visit_trait_item_fn(it, item);
            if let Some(body) = &item.default {
                it.add_parsed(&item.sig, body);
            }
        });
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.add_tokens(invocation.tokens.clone());
    }
}
