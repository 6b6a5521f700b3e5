mod broker;
