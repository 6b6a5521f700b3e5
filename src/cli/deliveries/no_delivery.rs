//! Why a user has no row at all: what would happen if the event came now. Pure.

use super::at_broker::AtBroker;
use super::explain::EventHistory;
use crate::db::registry::rules::Rule;
use crate::db::registry::users::User;
use crate::domain::consent;
use crate::domain::message_kind::MessageKind;

/// Everything that keeps an event from a user, in sentences; `users` are their rows in the event's app.
pub fn tell(who: &str, history: &EventHistory, users: &[User]) -> Vec<String> {
    let template = history.template_id.as_deref().unwrap_or_default();
    let app = history.app_id.as_deref().unwrap_or("unknown");
    let mut obstacles = of_rules(who, &history.rules, users);
    if users.is_empty() {
        obstacles.push(format!("No WeChat user of app {app} is bound to {who}; `user bind` binds one."));
    }
    obstacles.extend(users.iter().filter_map(|user| of_user(user, template)));

    let mut sentences = vec![format!(
        "{who} has no delivery of this event. According to the current rules, bindings and consents:"
    )];
    if obstacles.is_empty() {
        obstacles.push(format!(
            "they would get it. So a rule, the binding or the consent is newer than the event, or the event named \
             its recipients itself and not {who}."
        ));
    }
    sentences.append(&mut obstacles);
    sentences
}

/// Where an unknown event may be, in one sentence: at the broker, as far as that can be seen, or nowhere.
pub fn unheard_of(at_broker: &AtBroker) -> String {
    match at_broker {
        AtBroker::Unseen(why) => {
            format!("It may wait at the broker; that is not known, since the broker could not be asked: {why}.")
        }
        AtBroker::Depths(depths) if depths.is_empty() => {
            "No message waits at the broker. So it was never published here, or under another id; or a daemon is processing it right \
             now; or its rows were deleted."
                .to_owned()
        }
        AtBroker::Depths(depths) => {
            let queues: Vec<String> =
                depths.iter().map(|(queue, messages)| format!("{queue} ({messages})")).collect();
            format!("It may be among the messages that wait at the broker: {}.", queues.join(", "))
        }
    }
}

fn of_rules(who: &str, rules: &[Rule], users: &[User]) -> Vec<String> {
    let naming: Vec<&Rule> = rules.iter().filter(|rule| names(rule, who, users)).collect();
    if naming.is_empty() {
        return vec![format!("No rule for this company, app and template names {who}; `rule add` adds one.")];
    }
    if naming.iter().any(|rule| rule.active && rule.customer_id.is_none()) {
        return Vec::new();
    }
    naming.into_iter().map(of_rule).collect()
}

/// Under any of the user's names.
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
        _ if !rule.active => format!("Rule {} names them, but is disabled.", rule.id),
        Some(customer) => format!("Rule {} names them, but only for customer {customer}.", rule.id),
        None => format!("Rule {} names them.", rule.id),
    }
}

fn of_user(user: &User, template_id: &str) -> Option<String> {
    let known = consent::User { active: user.active, consent: user.consent(template_id) };
    let obstacle = MessageKind::Subscribe.verdict(Some(known)).err()?;
    let name = user.sys_user_id.as_deref().unwrap_or("this user");
    Some(format!("It would be skipped as {obstacle} for {name}: {}.", obstacle.meaning()))
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
        let history = EventHistory {
            app_id: Some("wx1".into()),
            template_id: Some("T1".into()),
            rules,
            ..EventHistory::default()
        };
        tell("zhangsan", &history, users).join("\n")
    }

    #[test]
    fn where_an_unknown_event_may_be_is_said_as_far_as_it_is_known() {
        let waits = unheard_of(&AtBroker::Depths(vec![("wechat.lane.wx1".into(), 3)]));
        assert!(waits.contains("wechat.lane.wx1 (3)"), "{waits}");
        assert!(unheard_of(&AtBroker::Depths(vec![])).contains("never published here"));
        assert!(unheard_of(&AtBroker::Unseen("refused".into())).contains("is not known"));
    }

    #[test]
    fn every_obstacle_is_told() {
        let told = story(vec![], &[]);
        assert!(told.contains("No rule") && told.contains("bound to zhangsan"), "{told}");
        let told = story(vec![rule(Some("M100"), true)], &[user(json!({ "T1": { "status": "reject" } }))]);
        assert!(told.contains("only for customer M100") && told.contains("rejected"), "{told}");
        assert!(story(vec![rule(None, false)], &[user(json!({}))]).contains("is disabled"));
    }

    #[test]
    fn an_openid_is_known_under_its_business_user_too() {
        let history = EventHistory {
            template_id: Some("T1".into()),
            rules: vec![rule(None, true)],
            ..EventHistory::default()
        };
        let told = tell("oA", &history, &[user(json!({ "T1": { "status": "accept" } }))]).join("\n");
        assert!(told.contains("they would get it"), "{told}");
    }
}
