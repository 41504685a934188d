-- A shop with a support desk, as SQLite has it: the schema and the rows of the trial. The same rows every time.
-- What is past its time is so on 2026-06-15.

create table categories (
  id integer primary key,
  parent_id integer references categories on delete restrict,
  name text not null,
  unique (parent_id, name)
);

create table products (
  id integer primary key autoincrement,
  sku varchar(20) not null unique collate nocase,
  category_id integer not null references categories (id) on delete restrict,
  name text not null,
  price numeric not null check (price >= 0),
  attributes json not null default '{}',
  picture blob,
  words text generated always as (lower(name)) virtual
);
create index products_words on products (words, json_extract(attributes, '$.size'));

create table customers (
  id integer primary key autoincrement,
  number text not null unique,
  email text not null check (email like '%@%'),
  name text,
  status text not null default 'open' check (status in ('open', 'closed')),
  referrer_id integer references customers (id) on delete set null,
  home any,
  settings json,
  balance numeric,
  closed_at text,
  lower_email text generated always as (lower(email)) stored
);
create unique index customers_email on customers (lower(email), number || 'x') where status = 'open';
create index customers_closed on customers (closed_at);
create index customers_referrer on customers (referrer_id);

create table addresses (
  customer_id integer not null references customers (id) on delete cascade,
  no integer not null,
  lines text not null,
  zip text collate nocase,
  is_default boolean,
  primary key (customer_id, no)
) without rowid;
create unique index addresses_default on addresses (customer_id) where is_default;

create table orders (
  id integer primary key autoincrement,
  customer_id integer not null references customers (id) on delete restrict,
  recipient_id integer references customers (id),
  ship_to integer,
  status text not null default 'new',
  note text,
  placed_at text not null,
  closed_at text,
  main_shipment text references shipments (code) deferrable initially deferred,
  constraint orders_address foreign key (customer_id, ship_to) references addresses (customer_id, no) deferrable initially immediate
);
create index orders_customer on orders (customer_id, ship_to);
create index orders_recipient on orders (recipient_id) where recipient_id is not null;
create index orders_closed on orders (closed_at);
create index orders_main on orders (main_shipment);

create table order_items (
  order_id integer not null references orders (id) on delete cascade,
  line integer not null,
  sku varchar(20) not null references products (sku) on update cascade on delete restrict,
  quantity int not null check (quantity > 0),
  price real not null,
  total numeric generated always as (quantity * price) stored,
  primary key (order_id, line)
) without rowid;

create table payments (
  id text primary key,
  order_id integer not null references orders (id),
  amount not null,
  paid_at integer not null,
  raw blob,
  unique (order_id, id)
);

-- Hangs on an order by way of its item, and by way of its payment.
create table refunds (
  id integer primary key autoincrement,
  payment_id text not null references payments (id) on delete restrict,
  order_id integer not null,
  line integer not null,
  reason text,
  foreign key (order_id, line) references order_items (order_id, line) on delete cascade,
  foreign key (order_id, payment_id) references payments (order_id, id)
);
create index refunds_payment on refunds (payment_id);
create index refunds_item on refunds (order_id, line);
create index refunds_order on refunds (order_id, payment_id);

-- In a circle with orders.
create table shipments (
  code text primary key,
  order_id integer not null references orders (id) on delete cascade deferrable initially deferred,
  weight real,
  size any
) strict;
create index shipments_order on shipments (order_id);

create table shipment_items (
  shipment text not null references shipments (code) on update cascade on delete cascade,
  order_id integer not null,
  line integer not null,
  primary key (shipment, line),
  foreign key (order_id, line) references order_items (order_id, line)
);
create index shipment_items_item on shipment_items (order_id, line);

create table shipment_events (
  id integer primary key autoincrement,
  shipment text not null references shipments (code) on delete cascade,
  at text not null,
  detail text
);
create index shipment_events_shipment on shipment_events (shipment);

-- What it refers to may go; the invoice stays.
create table invoices (
  number text primary key,
  order_id integer unique references orders (id) on delete set null,
  customer_number text default 'C-0001' references customers (number) on update cascade on delete set default,
  total numeric,
  printed blob
);
create index invoices_customer on invoices (customer_number);

create table consents (
  customer_id integer not null references customers (id) on delete cascade,
  since text not null,
  kind text not null,
  given text,
  primary key (customer_id, kind, since)
);

create table stock_moves (
  sku varchar(20) not null references products (sku) on update cascade,
  day date not null,
  no integer not null,
  quantity int not null,
  flags,
  primary key (sku, day, no)
);
create index stock_moves_day on stock_moves (day);

create table "Gift Cards" (
  "Card No." text primary key,
  "Valid until" text,
  "select" numeric,
  blocked boolean not null default false
);
create index "Gift Cards' time" on "Gift Cards" ("Valid until");

create table sessions (
  token blob primary key,
  customer_id integer references customers (id) on delete cascade,
  expires_at integer not null,
  pinned boolean,
  data json
);
create index sessions_expires on sessions (expires_at) where not pinned;
create index sessions_customer on sessions (customer_id);

create table agents (
  id integer primary key,
  name text not null
);

create table shifts (
  id integer primary key autoincrement,
  agent_id integer not null references agents (id),
  began_at real not null,
  ended_at real not null,
  check (began_at < ended_at)
);
create index shifts_ended on shifts (ended_at);

create table tickets (
  id integer primary key autoincrement,
  customer_id integer references customers (id) on delete set null,
  order_id integer references orders (id) on delete set null,
  agent_id integer default 0 references agents (id) on delete set default,
  merged_into integer references tickets (id) on delete set null,
  subject text not null,
  closed_on text
);
create index tickets_customer on tickets (customer_id);
create index tickets_order on tickets (order_id);
create index tickets_merged on tickets (merged_into);
create index tickets_closed on tickets (closed_on desc);

create table ticket_messages (
  id integer primary key autoincrement,
  ticket_id integer not null references tickets (id) on delete cascade,
  reply_to integer references ticket_messages (id),
  written_at text not null,
  body text
);
create index ticket_messages_ticket on ticket_messages (ticket_id);
create index ticket_messages_reply on ticket_messages (reply_to);

create table attachments (
  message_id integer not null references ticket_messages (id) on delete cascade,
  sha blob not null,
  name text,
  content blob not null,
  primary key (message_id, sha)
) without rowid;

-- Without a key, and with rows that are the same.
create table notifications (
  channel text not null,
  sent_at integer,
  text text
);
create index notifications_sent on notifications (sent_at);

create table events (
  id integer primary key autoincrement,
  at text not null,
  region text not null,
  customer_id integer references customers (id) on delete set null,
  payload json
);
create index events_at on events (at);
create index events_customer on events (customer_id);

create table audit_log (
  id integer primary key,
  "dropped once" text,
  at text not null,
  actor integer references agents (id),
  what text,
  old numeric,
  hash text generated always as (hex(what)) virtual
);
create index audit_log_at on audit_log (at);
alter table audit_log drop column "dropped once";

create trigger trim_name after update of name on customers when new.name like ' %' begin
  update customers set name = ltrim(new.name) where id = new.id;
end;
create view open_orders as select o.id, c.name from orders o join customers c on c.id = o.customer_id where o.status = 'new';

-- The rows.
create temporary table numbers as
  with recursive number (i) as (select 0 union all select i + 1 from number where i < 400) select i from number;
create temporary table said (n integer primary key, body text);
insert into said values
  (0, null), (1, ''), (2, 'plain'), (3, 'two' || char(10) || 'lines, "quoted"'), (4, '\N'), (5, '안녕하세요 🙂'), (6, ' spaces '),
  (7, 'it''s; -- not SQL'), (8, char(13, 10, 9) || 'tab'), (9, char(65279) || 'mark'), (10, 'NULL'), (11, 'null' || char(0) || 'byte');

insert into categories select i, nullif(i / 3, 0), 'category ' || i from numbers where i between 1 and 20;
insert into products (sku, category_id, name, price, attributes, picture)
  select 'SKU-' || i, 1 + i % 20, 'product ' || i, i * 1.2345, json_object('size', i, 'tags', json_array('a', null, '한글')),
    case when i % 3 > 0 then unhex(printf('00ff%04x', i)) end
  from numbers where i between 1 and 50;
insert into customers (number, email, name, status, referrer_id, home, settings, balance, closed_at)
  select printf('C-%04d', i), 'c' || i || '@Example.com', ltrim(body), iif(i % 4 = 0, 'closed', 'open'), iif(i % 3 = 0, i / 2, null),
    case i % 4 when 0 then i when 1 then i / 2.0 when 2 then body else x'00ff' end, '{"b" : 1,  "a":' || i || ', "b":2}',
    case i % 5 when 0 then -0.0 when 1 then 9e999 when 2 then 1e-40 when 3 then 9223372036854775807 end,
    case
      when i % 12 = 0 then '2026-01-01T00:00:00.000Z'
      when i % 4 = 0 then strftime('%Y-%m-%dT%H:%M:%fZ', '2022-01-01', i || ' days', (i / 1000.0) || ' seconds')
    end
  from numbers join said on n = i % 12 where i between 1 and 60;
insert into addresses select c.i, no.i, body || no.i, 'z' || c.i, no.i = 1
  from numbers c join numbers no on no.i in (1, 2) join said on n = 4 + no.i where c.i between 1 and 60;
insert into orders (customer_id, recipient_id, ship_to, status, note, placed_at, closed_at)
  select 2 + i * 7 % 59, iif(i % 20 = 0, 2 + i * 11 % 59, null), iif(i % 3 > 0, 1 + i % 2, null),
    case i % 5 when 0 then 'done' when 1 then 'cancelled' when 2 then 'done' when 3 then 'it''s, "odd"' else 'new' end,
    body, datetime('2024-01-01 12:00:00', (i * 4) || ' days'), iif(i % 5 < 4, datetime('2024-01-08 12:00:00', (i * 4) || ' days') || '.654321', null)
  from numbers join said on n = i % 12 where i between 1 and 200;
insert into order_items (order_id, line, sku, quantity, price)
  select o.i, line.i, 'sku-' || (1 + (o.i * line.i) % 50), line.i, o.i + 0.0001
  from numbers o join numbers line on line.i between 1 and 1 + o.i % 3 where o.i between 1 and 200;
insert into payments
  select printf('P-%08x', i * 7919), i, case i % 4 when 0 then '0.10' when 1 then 0.1 when 2 then 1e30 else 9e999 end,
    1706724245 + i * 345600, iif(i % 7 > 0, unhex(printf('%.*c', i % 7 * 2, 'f')), null)
  from numbers where i between 1 and 200 and i % 5 < 4;
insert into refunds (payment_id, order_id, line, reason)
  select printf('P-%08x', i * 7919), i, 1, body from numbers join said on n = i % 12 where i between 1 and 200 and i % 5 < 4 and i % 6 = 0;
insert into shipments
  select 'S,' || o.i || '"' || part.i, o.i, o.i / 3.0, case part.i when 1 then o.i else x'00' end
  from numbers o join numbers part on part.i in (1, 2) where o.i between 1 and 200 and o.i % 4 >= part.i;
update orders set main_shipment = (select max(code) from shipments where order_id = orders.id) where id % 3 = 1;
insert into shipment_items (shipment, order_id, line) select code, order_id, 1 from shipments;
insert into shipment_events (shipment, at, detail)
  select code, strftime('%Y-%m-%dT%H:%M:%SZ', '2024-03-01', (order_id * 4) || ' days', i || ' hours'), body
  from shipments join numbers on i in (1, 2) join said on n = 2 + i;
insert into invoices
  select 'I-' || i, i, printf('C-%04d', 2 + i * 7 % 59), i * 1.5, unhex(printf('%08x', i)) from numbers where i between 1 and 200 and i % 2 = 1;
insert into consents select i, date('2020-01-01', i || ' days'), kind, iif(i % 2 = 0, '', null)
  from numbers, (select 'mail' as kind union select 'post') where i between 1 and 60;
insert into stock_moves select 'SKU-' || (1 + i % 50), date('2025-01-01', (i / 20 * 60) || ' days'), i % 3, i - 100, case i % 3 when 0 then 1.0 when 1 then 1 else '1' end
  from numbers where i between 1 and 200;
insert into "Gift Cards" select 'card \ ' || i, datetime('2025-01-01', (i * 10) || ' days'), i * 1234567890123456.1, i % 4 = 0 from numbers where i between 1 and 60;
insert into sessions select unhex(printf('%016x', i * 7919)), iif(i % 6 > 0, 1 + i % 60, null), 1775001600123 + i * 86400000, i % 10 = 0, json_object('said', body)
  from numbers join said on n = i % 12 where i between 1 and 100;
insert into agents select i, 'agent ' || i from numbers where i <= 5;
insert into shifts (agent_id, began_at, ended_at) select i % 6, 2460827.5 + i / 3.0, 2460827.5 + (i + 1) / 3.0 from numbers where i between 1 and 60;
insert into tickets (customer_id, order_id, agent_id, merged_into, subject, closed_on)
  select 2 + i * 7 % 59, iif(i % 2 = 0, i, null), i % 6, iif(i % 7 = 0, i / 2, null), 'ticket ' || i || coalesce(body, '∅'),
    iif(i % 3 < 2, date('2025-01-01', (i * 4) || ' days'), null)
  from numbers join said on n = i % 12 where i between 1 and 120;
insert into ticket_messages (ticket_id, reply_to, written_at, body)
  select 1 + (i - 1) / 3, iif(i % 3 <> 1, i - 1, null), strftime('%Y-%m-%dT%H:%M:%fZ', '2025-01-01', i || ' days', '0.5 seconds'), body
  from numbers join said on n = i % 12 where i between 1 and 360;
insert into attachments select i, unhex(printf('%08x', i)), 'it''s "' || i || '".pdf', zeroblob(i % 40) from numbers where i between 1 and 360 and i % 4 = 1;
insert into notifications
  select case i % 3 when 0 then 'mail' when 1 then 'sms' else 'push' end, iif(i % 25 > 0, 1769904000 + i / 2 * 86400, null), body
  from numbers join said on n = i / 2 % 12 where i between 1 and 200;
insert into events (at, region, customer_id, payload)
  select strftime('%Y-%m-%dT%H:%M:%SZ', '2026-01-01', (i * 10) || ' hours'), case i % 4 when 0 then 'de' when 1 then 'fr' when 2 then 'kr' else 'it''s' end,
    iif(i % 3 = 0, 1 + i % 60, null), json_object('n', i, 'said', body)
  from numbers join said on n = i % 12 where i <= 390;
insert into audit_log (at, actor, what, old)
  select datetime('2025-01-01', (i * 2) || ' days'), i % 6, body, i * 0.10 from numbers join said on n = i % 12 where i <= 250;
delete from events where id = 391;
drop table numbers;
drop table said;
analyze;
