//! Why somebody has no row at all: what would happen if the event came now. Pure.

use super::reasons::meaning;
use super::telling::Chapter;
use crate::db::registry::rules::Rule;
use crate::db::registry::users::User;

/// Everything that stands between an event and a person, in sentences; `users` are his rows in the event's app.
pub fn tell(who: &str, chapter: &Chapter, users: &[User]) -> Vec<String> {
    let template = chapter.template_id.as_deref().unwrap_or_default();
    let app = chapter.app_id.as_deref().unwrap_or("unknown");
    let mut obstacles = of_rules(who, &chapter.rules, users);
    if users.is_empty() {
        obstacles.push(format!("Nobody in app {app} is bound to {who}; `user bind` does it."));
    }
    obstacles.extend(users.iter().filter_map(|user| of_user(user, template)));

    let mut sentences =
        vec![format!("{who} has no delivery of this event. By the rules, bindings and consents of now:")];
    if obstacles.is_empty() {
        obstacles.push(format!(
            "he would get it. So a rule, his binding or his consent came after the event, or the event named its \
             recipients itself and not {who}."
        ));
    }
    sentences.append(&mut obstacles);
    sentences
}

fn of_rules(who: &str, rules: &[Rule], users: &[User]) -> Vec<String> {
    let naming: Vec<&Rule> = rules.iter().filter(|rule| names(rule, who, users)).collect();
    if naming.is_empty() {
        return vec![format!(
            "No rule for this company, app and template names {who}; `rule add` makes one."
        )];
    }
    if naming.iter().any(|rule| rule.active && rule.customer_id.is_none()) {
        return Vec::new();
    }
    naming.into_iter().map(of_rule).collect()
}

/// Under any of the names he is known by.
fn names(rule: &Rule, who: &str, users: &[User]) -> bool {
    let openids = users.iter().map(|user| user.openid.as_str());
    let sys_user_ids = users.iter().filter_map(|user| user.sys_user_id.as_deref());
    rule.openids.iter().any(|named| named == who || openids.clone().any(|openid| openid == named))
        || rule
            .sys_user_ids
            .iter()
            .any(|named| named == who || sys_user_ids.clone().any(|user| user == named))
}

fn of_rule(rule: &Rule) -> String {
    match &rule.customer_id {
        _ if !rule.active => format!("Rule {} names him, but is switched off.", rule.id),
        Some(customer) => format!("Rule {} names him, but only for customer {customer}.", rule.id),
        None => format!("Rule {} names him.", rule.id),
    }
}

fn of_user(user: &User, template_id: &str) -> Option<String> {
    let obstacle = match user.consent(template_id).allows() {
        _ if !user.active => "disabled",
        Ok(()) => return None,
        Err(reason) => reason.as_str(),
    };
    let name = user.sys_user_id.as_deref().unwrap_or("he");
    Some(format!("It would be skipped as {obstacle} for {name}: {}.", meaning(obstacle)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(customer: Option<&str>, active: bool) -> Rule {
        Rule {
            id: 5,
            company_no: "C001".into(),
            app_id: "wx1".into(),
            template_id: "T1".into(),
            customer_id: customer.map(str::to_owned),
            sys_user_ids: vec!["zhangsan".into()],
            openids: vec![],
            active,
            update_time: None,
        }
    }

    fn user(consents: Value) -> User {
        User {
            app_id: "wx1".into(),
            openid: "oA".into(),
            sys_user_id: Some("zhangsan".into()),
            username: None,
            subscribe_template: consents,
            active: true,
            update_time: None,
        }
    }

    fn story(rules: Vec<Rule>, users: &[User]) -> String {
        let chapter = Chapter {
            app_id: Some("wx1".into()),
            template_id: Some("T1".into()),
            rules,
            ..Chapter::default()
        };
        tell("zhangsan", &chapter, users).join("\n")
    }

    #[test]
    fn every_obstacle_is_told() {
        let told = story(vec![], &[]);
        assert!(told.contains("No rule") && told.contains("bound to zhangsan"), "{told}");
        let told = story(vec![rule(Some("M100"), true)], &[user(json!({ "T1": { "status": "reject" } }))]);
        assert!(told.contains("only for customer M100") && told.contains("rejected"), "{told}");
        assert!(story(vec![rule(None, false)], &[user(json!({}))]).contains("switched off"));
    }

    #[test]
    fn an_openid_is_known_under_its_business_user_too() {
        let chapter =
            Chapter { template_id: Some("T1".into()), rules: vec![rule(None, true)], ..Chapter::default() };
        let told = tell("oA", &chapter, &[user(json!({ "T1": { "status": "accept" } }))]).join("\n");
        assert!(told.contains("he would get it"), "{told}");
    }
}
