//! What becomes of a request to send, as WeChat and the network can spoil it.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wechat_notifier::config;
use wechat_notifier::domain::answer::SendAnswer;
use wechat_notifier::domain::app::TokenApi;
use wechat_notifier::domain::ids::{AppId, Openid, TemplateId};
use wechat_notifier::domain::message_kind::{Message, MessageKind};
use wechat_notifier::wechat::{AccessToken, Client};

const TIMEOUT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn an_accepted_message_is_read_with_its_msgid() {
    let (answer, request) =
        send_to(Wire::Answer(ok(r#"{"errcode":0,"errmsg":"ok","msgid":9007199254740993}"#))).await;
    assert_eq!(
        answer,
        SendAnswer::Read {
            errcode: 0,
            errmsg: "ok".to_owned(),
            rid: None,
            msgid: Some(9_007_199_254_740_993)
        }
    );
    assert!(
        request.starts_with("POST /cgi-bin/message/subscribe/send?access_token=a%2Bb HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(r#""data":{"thing2":{"value":"广州至北京"}}"#),
        "data goes out as it is: {request}"
    );
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    // Taken and let go: nobody listens there now.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(send(&client(&format!("http://{address}"))).await, SendAnswer::NotConnected);
}

#[tokio::test]
async fn no_answer_and_half_an_answer_are_time_outs() {
    assert_eq!(send_to(Wire::Silence).await.0, SendAnswer::TimedOut);
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"errcode\"".to_owned();
    assert_eq!(send_to(Wire::AnswerAndSilence(half)).await.0, SendAnswer::TimedOut);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_broken() {
    assert_eq!(send_to(Wire::Answer(String::new())).await.0, SendAnswer::Broken);
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"errcode\"".to_owned();
    assert_eq!(send_to(Wire::Answer(half)).await.0, SendAnswer::Broken);
}

#[tokio::test]
async fn an_http_error_says_its_status_and_how_long_to_wait() {
    let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n".to_owned();
    let wait = Some(Duration::from_secs(7));
    assert_eq!(send_to(Wire::Answer(busy)).await.0, SendAnswer::Http { status: 429, retry_after: wait });
    // The status is out; a body that never ends must not make it a timeout.
    let bad_gateway = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 100\r\n\r\n<html>".to_owned();
    assert_eq!(
        send_to(Wire::AnswerAndSilence(bad_gateway)).await.0,
        SendAnswer::Http { status: 502, retry_after: None }
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n".to_owned();
    assert_eq!(send_to(Wire::Answer(moved)).await.0, SendAnswer::Http { status: 302, retry_after: None });
}

#[tokio::test]
async fn what_is_no_answer_of_wechat_is_unreadable() {
    assert_eq!(send_to(Wire::Answer(ok("<html>login</html>"))).await.0, SendAnswer::Unreadable);
    let endless = format!(r#"{{"errcode":0,"errmsg":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(send_to(Wire::Answer(ok(&endless))).await.0, SendAnswer::Unreadable);
}

#[tokio::test]
async fn the_classic_endpoint_is_asked_by_query_and_errors_never_show_it() {
    let (base, request) = serve(Wire::Answer(ok(r#"{"access_token":"57_x","expires_in":7200}"#))).await;
    let app_id = AppId::parse("wx1").unwrap();
    let secret = "s3cr&t".into();
    let token = client(&base).fetch_token(TokenApi::Classic, &app_id, &secret).await.unwrap();
    assert_eq!((token.value.expose_secret(), token.expires_in), ("57_x", Duration::from_secs(7_200)));
    let line = "GET /cgi-bin/token?grant_type=client_credential&appid=wx1&secret=s3cr%26t HTTP/1.1";
    assert!(request.await.unwrap().starts_with(line));

    // The server has gone: this time it fails.
    let error = client(&base).fetch_token(TokenApi::Classic, &app_id, &secret).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("refused") && !shown.contains("s3cr"), "{shown}");
}

/// What the server does with the one request it takes.
enum Wire {
    /// Writes this and closes.
    Answer(String),
    /// Writes this and keeps the connection open.
    AnswerAndSilence(String),
    Silence,
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends one message to a server that behaves like this; what was answered, and what the server read.
async fn send_to(wire: Wire) -> (SendAnswer, String) {
    let (base, request) = serve(wire).await;
    let answer = send(&client(&base)).await;
    (answer, request.await.unwrap())
}

async fn send(client: &Client) -> SendAnswer {
    let token = AccessToken::new("a+b".into(), 1);
    let data = RawValue::from_string(r#"{"thing2":{"value":"广州至北京"}}"#.to_owned()).unwrap();
    let message = Message {
        openid: &Openid::parse("oABC").unwrap(),
        template_id: &TemplateId::parse("tmpl").unwrap(),
        page: Some("pages/index?id=1"),
        data: &data,
        miniprogram_state: "formal",
        lang: "zh_CN",
    };
    client.send(&token, MessageKind::Subscribe, &message).await
}

fn client(api_base: &str) -> Client {
    Client::new(&config::WeChat { api_base: api_base.to_owned(), request_timeout: TIMEOUT }, 4).unwrap()
}

/// Takes one connection and one request, and stops listening.
async fn serve(wire: Wire) -> (String, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (tell, request) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let mut read = vec![0; 16 * 1024];
        let mut length = 0;
        while !is_whole(&read[..length]) {
            length += stream.read(&mut read[length..]).await.unwrap();
        }
        tell.send(String::from_utf8_lossy(&read[..length]).into_owned()).unwrap();
        match wire {
            Wire::Answer(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Wire::AnswerAndSilence(text) => {
                stream.write_all(text.as_bytes()).await.unwrap();
                let _ = stream.read(&mut read).await;
            }
            Wire::Silence => drop(stream.read(&mut read).await),
        }
    });
    (base, request)
}

/// A request without a body ends with the empty line, ours with a body at its closing brace.
fn is_whole(request: &[u8]) -> bool {
    request.ends_with(b"}") || (request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n"))
}
