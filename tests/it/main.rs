//! The integration tests: stories told at the wire, on a real RabbitMQ, a real PostgreSQL and a simulated WeChat.
//! Run them through `./tests/run`.

mod support;

mod main_story;
