BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
CREATE TABLE api_keys (
	key_id TEXT NOT NULL, 
	key_hash TEXT NOT NULL, 
	signing_box TEXT, 
	name TEXT NOT NULL, 
	client TEXT NOT NULL, 
	role TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	expires_at DOUBLE, 
	revoked_at DOUBLE, 
	CONSTRAINT pk_api_keys PRIMARY KEY (key_id), 
	CONSTRAINT uq_api_keys_key_hash UNIQUE (key_hash)
);
CREATE TABLE attempts (
	leg_id TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	body TEXT NOT NULL, 
	sends INTEGER NOT NULL, 
	first_sent_at DOUBLE NOT NULL, 
	last_sent_at DOUBLE NOT NULL, 
	outcome TEXT, 
	outcome_code TEXT, 
	outcome_message TEXT, 
	request_id TEXT, 
	answered_at DOUBLE, 
	CONSTRAINT pk_attempts PRIMARY KEY (leg_id, number), 
	CONSTRAINT fk_attempts_leg_id FOREIGN KEY(leg_id) REFERENCES legs (leg_id), 
	CONSTRAINT uq_attempts_key UNIQUE ("key")
);
INSERT INTO "attempts" VALUES('rf_01a218b6858116b32976121539-1',1,'rf_01a218b6858116b32976121539-1:1','{"amount_minor": 1000, "attempt": 1, "currency": "USD", "installation": "inst_8fc204570e2443948d293498609f3056", "leg_id": "rf_01a218b6858116b32976121539-1", "processor_payment_id": "ch_5", "reason": "asked", "refund_id": "rf_01a218b6858116b32976121539"}',1,1800000000.0,1800000000.0,'Answered','re_1','succeeded','req_1',1800000000.0);
INSERT INTO "attempts" VALUES('rf_01a218b6865716b6f9dceb6ea9-1',1,'rf_01a218b6865716b6f9dceb6ea9-1:1','{"amount_minor": 1000, "attempt": 1, "currency": "USD", "installation": "inst_8fc204570e2443948d293498609f3056", "leg_id": "rf_01a218b6865716b6f9dceb6ea9-1", "processor_payment_id": "ch_4", "reason": "asked", "refund_id": "rf_01a218b6865716b6f9dceb6ea9"}',1,1800001000.0,1800001000.0,'Answered','re_2','pending','req_1',1800001000.0);
INSERT INTO "attempts" VALUES('rf_01a218b686a216b99c8f3bf986-1',1,'rf_01a218b686a216b99c8f3bf986-1:1','{"amount_minor": 1000, "attempt": 1, "currency": "USD", "installation": "inst_8fc204570e2443948d293498609f3056", "leg_id": "rf_01a218b686a216b99c8f3bf986-1", "processor_payment_id": "ch_3", "reason": "asked", "refund_id": "rf_01a218b686a216b99c8f3bf986"}',1,1800001000.0,1800001000.0,'Refused','declined','no',NULL,1800001000.0);
INSERT INTO "attempts" VALUES('rf_01a218b686a216b99c8f3bf986-3',1,'rf_01a218b686a216b99c8f3bf986-3:1','{"amount_minor": 1, "attempt": 1, "currency": "USD", "installation": "inst_8fc204570e2443948d293498609f3056", "leg_id": "rf_01a218b686a216b99c8f3bf986-3", "processor_payment_id": "ch_1", "reason": "asked", "refund_id": "rf_01a218b686a216b99c8f3bf986"}',1,1800001000.0,1800001000.0,'Refused','declined','no',NULL,1800001000.0);
INSERT INTO "attempts" VALUES('rf_01a218b686fa16c0effc6c6ec7-1',1,'rf_01a218b686fa16c0effc6c6ec7-1:1','{"amount_minor": 1000, "attempt": 1, "currency": "USD", "installation": "inst_8fc204570e2443948d293498609f3056", "leg_id": "rf_01a218b686fa16c0effc6c6ec7-1", "processor_payment_id": "ch_7", "reason": "asked", "refund_id": "rf_01a218b686fa16c0effc6c6ec7"}',1,1800001060.0,1800001060.0,'Unanswered',NULL,'timeout',NULL,1800001060.0);
CREATE TABLE audit_checks (
	seq INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	kind TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	first_seal BIGINT NOT NULL, 
	last_seal BIGINT NOT NULL, 
	rows BIGINT NOT NULL, 
	findings TEXT DEFAULT '[]' NOT NULL, 
	CONSTRAINT pk_audit_checks PRIMARY KEY (seq)
);
CREATE TABLE audit_seals (
	seq BIGINT NOT NULL, 
	table_name TEXT NOT NULL, 
	first_seq BIGINT NOT NULL, 
	last_seq BIGINT NOT NULL, 
	rows INTEGER NOT NULL, 
	digests TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	sealed_at DOUBLE NOT NULL, form INTEGER DEFAULT '1' NOT NULL, 
	CONSTRAINT pk_audit_seals PRIMARY KEY (seq), 
	CONSTRAINT uq_audit_seals_table_name_first_seq UNIQUE (table_name, first_seq)
);
CREATE TABLE console_sessions (
	session_hash TEXT NOT NULL, 
	name TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	seen_at DOUBLE NOT NULL, 
	confirmed_at DOUBLE NOT NULL, 
	CONSTRAINT pk_console_sessions PRIMARY KEY (session_hash), 
	CONSTRAINT fk_console_sessions_name FOREIGN KEY(name) REFERENCES console_users (name)
);
CREATE TABLE console_tries (
	subject TEXT NOT NULL, 
	tries INTEGER NOT NULL, 
	last_at DOUBLE NOT NULL, 
	CONSTRAINT pk_console_tries PRIMARY KEY (subject)
);
CREATE TABLE console_users (
	name TEXT NOT NULL, 
	role TEXT NOT NULL, 
	password_hash TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	disabled_at DOUBLE, 
	CONSTRAINT pk_console_users PRIMARY KEY (name)
);
CREATE TABLE customers (
	customer_id TEXT NOT NULL, 
	balance BIGINT DEFAULT '0' NOT NULL, 
	held BIGINT DEFAULT '0' NOT NULL, 
	bought BIGINT DEFAULT '0' NOT NULL, 
	net_spent BIGINT DEFAULT '0' NOT NULL, 
	withdrawn BIGINT DEFAULT '0' NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_customers PRIMARY KEY (customer_id), 
	CONSTRAINT ck_customers_sums CHECK (bought >= 0 AND net_spent >= 0 AND withdrawn >= 0), 
	CONSTRAINT ck_customers_held CHECK (held >= 0)
);
INSERT INTO "customers" VALUES('c',169,5,600,30,406,1800000000.0);
CREATE TABLE erasures (
	seq INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	actor TEXT NOT NULL, 
	table_name TEXT NOT NULL, 
	row_seq BIGINT NOT NULL, 
	was TEXT NOT NULL, 
	texts_hash TEXT, 
	becomes TEXT NOT NULL, 
	CONSTRAINT pk_erasures PRIMARY KEY (seq)
);
CREATE TABLE events (
	seq INTEGER NOT NULL, 
	refund_id TEXT, 
	at DOUBLE NOT NULL, 
	actor TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	leg_id TEXT, 
	from_status TEXT, 
	to_status TEXT, 
	reason TEXT, 
	detail TEXT DEFAULT '{}' NOT NULL, 
	alarm BOOLEAN DEFAULT false NOT NULL, salt TEXT, 
	CONSTRAINT pk_events PRIMARY KEY (seq), 
	CONSTRAINT fk_events_refund_id FOREIGN KEY(refund_id) REFERENCES refunds (refund_id)
);
INSERT INTO "events" VALUES(1,'rf_01a218b6856316b259b4a22763',1800000000.0,'unknown','accepted',NULL,NULL,'queued','asked','{"credits": 20}',0,'18899fdf1830c8df53719967ea9105a0');
INSERT INTO "events" VALUES(2,'rf_01a218b6858116b32976121539',1800000000.0,'unknown','accepted',NULL,NULL,'queued','asked','{"credits": 100, "money": "10.00 USD over pay5"}',0,'bcb9ac4e486696f92ef03c7bef6975dd');
INSERT INTO "events" VALUES(3,'rf_01a218b6856316b259b4a22763',1800000000.0,'refund-worker','refund_credited',NULL,'queued','succeeded',NULL,'{}',0,'e003fdba77be14d5d116784f61c05070');
INSERT INTO "events" VALUES(4,'rf_01a218b6858116b32976121539',1800000000.0,'refund-worker','refund_posted',NULL,'queued','sending',NULL,'{}',0,'c5f950635a2cfbc6468e669a1916f65d');
INSERT INTO "events" VALUES(5,'rf_01a218b6858116b32976121539',1800000000.0,'refund-worker','leg_sent','rf_01a218b6858116b32976121539-1','planned','sending',NULL,'{"attempt": 1, "send": 1}',0,'f230b0c2cb00449378da3861399abfa3');
INSERT INTO "events" VALUES(6,'rf_01a218b6858116b32976121539',1800000000.0,'processor','leg_paid','rf_01a218b6858116b32976121539-1','sending','succeeded',NULL,'{"processor_refund_id": "re_1"}',0,'8b1692f17b24cbaebd600a5f66d5de04');
INSERT INTO "events" VALUES(7,'rf_01a218b6858116b32976121539',1800000000.0,'processor','refund_paid',NULL,'sending','succeeded',NULL,'{}',0,'d3f934e167f7d19c44c419e6c6d7f120');
INSERT INTO "events" VALUES(8,'rf_01a218b6865716b6f9dceb6ea9',1800001000.0,'unknown','accepted',NULL,NULL,'queued','asked','{"credits": 100, "money": "10.00 USD over pay4"}',0,'5cbc668ec33d070778ab9c331ba36c30');
INSERT INTO "events" VALUES(9,'rf_01a218b6865716b6f9dceb6ea9',1800001000.0,'refund-worker','refund_posted',NULL,'queued','sending',NULL,'{}',0,'1a57301d89969f40204cecef641a55a7');
INSERT INTO "events" VALUES(10,'rf_01a218b6865716b6f9dceb6ea9',1800001000.0,'refund-worker','leg_sent','rf_01a218b6865716b6f9dceb6ea9-1','planned','sending',NULL,'{"attempt": 1, "send": 1}',0,'bbe99a3ddfe6029fb159e67bf1c7be01');
INSERT INTO "events" VALUES(11,'rf_01a218b6865716b6f9dceb6ea9',1800001000.0,'processor','leg_accepted','rf_01a218b6865716b6f9dceb6ea9-1','sending','pending',NULL,'{"processor_refund_id": "re_2"}',0,'e2197d9fcec240272032478030941512');
INSERT INTO "events" VALUES(12,'rf_01a218b6865716b6f9dceb6ea9',1800001000.0,'processor','refund_waiting',NULL,'sending','pending',NULL,'{}',0,'587a8b6c8e5ce8af6efd0f5b14ce41b8');
INSERT INTO "events" VALUES(13,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'unknown','accepted',NULL,NULL,'queued','asked','{"credits": 101, "money": "10.00 USD over pay3, 0.00 USD over pay1"}',0,'61c69b3d9554fd5406834a46d1d9f290');
INSERT INTO "events" VALUES(14,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'refund-worker','refund_posted',NULL,'queued','sending',NULL,'{}',0,'3b5a5b04802374986416e81d7a2cc0d1');
INSERT INTO "events" VALUES(15,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'refund-worker','leg_sent','rf_01a218b686a216b99c8f3bf986-1','planned','sending',NULL,'{"attempt": 1, "send": 1}',0,'3336d2be67e8c3452338d80001131202');
INSERT INTO "events" VALUES(16,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'processor','leg_refused','rf_01a218b686a216b99c8f3bf986-1','sending','failed','declined','{}',0,'5ed4435b7a3abf3bb718cfaafa3682bd');
INSERT INTO "events" VALUES(17,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'refund-worker','leg_replaced','rf_01a218b686a216b99c8f3bf986-1',NULL,NULL,NULL,'{"by": "rf_01a218b686a216b99c8f3bf986-3", "minor": 1, "payment_id": "pay1"}',0,'c51e1885c480ed2f3e9f539e76608ef5');
INSERT INTO "events" VALUES(18,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'refund-worker','leg_sent','rf_01a218b686a216b99c8f3bf986-3','planned','sending',NULL,'{"attempt": 1, "send": 1}',0,'d2aafc76f5c157745fb68ee4692f3f0d');
INSERT INTO "events" VALUES(19,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'processor','leg_refused','rf_01a218b686a216b99c8f3bf986-3','sending','failed','declined','{}',0,'6e15759c29f526af0ba7505167367ffa');
INSERT INTO "events" VALUES(20,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'refund-worker','leg_given_up','rf_01a218b686a216b99c8f3bf986-2','succeeded','canceled',NULL,'{}',0,'e8e4d6a1d40cd424c09efb14e483b065');
INSERT INTO "events" VALUES(21,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'refund-worker','refund_returning',NULL,'sending','reversing',NULL,'{}',0,'e74e78f2b529677e09b6b95574a4716f');
INSERT INTO "events" VALUES(22,'rf_01a218b686a216b99c8f3bf986',1800001000.0,'refund-worker','refund_paid_nothing',NULL,'reversing','failed',NULL,'{}',0,'12909a4ee789062901910a678c5bd9be');
INSERT INTO "events" VALUES(23,'rf_01a218b686a216b99c8f3bf986',1800001060.0,'processor','processor_contradicts','rf_01a218b686a216b99c8f3bf986-1',NULL,NULL,NULL,'{"credits": 100}',1,'f425cbfa7e9d117f572b0f9b4c28e89a');
INSERT INTO "events" VALUES(24,'rf_01a218b686a216b99c8f3bf986',1800001060.0,'processor','processor_contradicts','rf_01a218b686a216b99c8f3bf986-2',NULL,NULL,NULL,'{"credits": 1}',1,'6b023f7ad868dac703c6e38359931d91');
INSERT INTO "events" VALUES(25,'rf_01a218b686a216b99c8f3bf986',1800001060.0,'processor','leg_paid','rf_01a218b686a216b99c8f3bf986-2','canceled','succeeded','follows the others','{}',0,'1d6711aa2e733c7dcf34d7b6a86413d1');
INSERT INTO "events" VALUES(26,'rf_01a218b686a216b99c8f3bf986',1800001060.0,'processor','leg_paid','rf_01a218b686a216b99c8f3bf986-1','failed','succeeded',NULL,'{"processor_refund_id": "re_by_hand_3"}',0,'9de181d534deb3f5a7108e50c12a240b');
INSERT INTO "events" VALUES(27,'rf_01a218b686a216b99c8f3bf986',1800001060.0,'processor','refund_paid',NULL,'failed','succeeded',NULL,'{}',0,'925cb0f6664710a93a4ef839e63ffa69');
INSERT INTO "events" VALUES(28,'rf_01a218b686fa16c0effc6c6ec7',1800001060.0,'unknown','accepted',NULL,NULL,'queued','asked','{"credits": 100, "money": "10.00 USD over pay7"}',0,'623846e502ae3380a4898b941530fadf');
INSERT INTO "events" VALUES(29,'rf_01a218b686fa16c0effc6c6ec7',1800001060.0,'refund-worker','refund_posted',NULL,'queued','sending',NULL,'{}',0,'afb918d7d6636149d65c24db9b9ea3b5');
INSERT INTO "events" VALUES(30,'rf_01a218b686fa16c0effc6c6ec7',1800001060.0,'refund-worker','leg_sent','rf_01a218b686fa16c0effc6c6ec7-1','planned','sending',NULL,'{"attempt": 1, "send": 1}',0,'7493bc86d36d4f784b31bec87c94fa52');
INSERT INTO "events" VALUES(31,'rf_01a218b686fa16c0effc6c6ec7',1800001060.0,'processor','leg_silence','rf_01a218b686fa16c0effc6c6ec7-1','sending','unknown','timeout','{}',0,'69025d8e1ab70b8d4d0942038ea59ecb');
INSERT INTO "events" VALUES(32,'rf_01a218b6872a16c3e32c9f48f0',1800001060.0,'unknown','accepted',NULL,NULL,'queued','asked','{"credits": 5, "money": "0.50 USD over pay6"}',0,'659b5ddf7d7f675fffee30df5a994665');
CREATE TABLE inbox (
	processor TEXT NOT NULL, 
	event_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	body TEXT NOT NULL, 
	received_at DOUBLE NOT NULL, 
	taken_at DOUBLE, 
	outcome TEXT, 
	tries INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_inbox PRIMARY KEY (processor, event_id)
);
CREATE TABLE installation (
	row_number INTEGER NOT NULL, 
	installation_id TEXT NOT NULL, 
	CONSTRAINT pk_installation PRIMARY KEY (row_number), 
	CONSTRAINT ck_installation_one_row CHECK (row_number = 1)
);
INSERT INTO "installation" VALUES(1,'inst_8fc204570e2443948d293498609f3056');
CREATE TABLE keyed_acts (
	client TEXT NOT NULL, 
	idempotency_key TEXT NOT NULL, 
	body TEXT NOT NULL, 
	result_id TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_keyed_acts PRIMARY KEY (client, idempotency_key)
);
CREATE TABLE ledger_entries (
	seq INTEGER NOT NULL, 
	transaction_id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	amount BIGINT NOT NULL, 
	CONSTRAINT pk_ledger_entries PRIMARY KEY (seq), 
	CONSTRAINT ck_ledger_entries_amount CHECK (amount <> 0), 
	CONSTRAINT fk_ledger_entries_transaction_id FOREIGN KEY(transaction_id) REFERENCES ledger_transactions (transaction_id)
);
INSERT INTO "ledger_entries" VALUES(1,'purchase-pay1','house:issued','credits',-100);
INSERT INTO "ledger_entries" VALUES(2,'purchase-pay1','customer:c','credits',100);
INSERT INTO "ledger_entries" VALUES(3,'purchase-pay1','house:sales','USD',-1);
INSERT INTO "ledger_entries" VALUES(4,'purchase-pay1','processor:stripe','USD',1);
INSERT INTO "ledger_entries" VALUES(5,'purchase-pay3','house:issued','credits',-100);
INSERT INTO "ledger_entries" VALUES(6,'purchase-pay3','customer:c','credits',100);
INSERT INTO "ledger_entries" VALUES(7,'purchase-pay3','house:sales','USD',-1000);
INSERT INTO "ledger_entries" VALUES(8,'purchase-pay3','processor:stripe','USD',1000);
INSERT INTO "ledger_entries" VALUES(9,'purchase-pay4','house:issued','credits',-100);
INSERT INTO "ledger_entries" VALUES(10,'purchase-pay4','customer:c','credits',100);
INSERT INTO "ledger_entries" VALUES(11,'purchase-pay4','house:sales','USD',-1000);
INSERT INTO "ledger_entries" VALUES(12,'purchase-pay4','processor:stripe','USD',1000);
INSERT INTO "ledger_entries" VALUES(13,'purchase-pay5','house:issued','credits',-100);
INSERT INTO "ledger_entries" VALUES(14,'purchase-pay5','customer:c','credits',100);
INSERT INTO "ledger_entries" VALUES(15,'purchase-pay5','house:sales','USD',-1000);
INSERT INTO "ledger_entries" VALUES(16,'purchase-pay5','processor:stripe','USD',1000);
INSERT INTO "ledger_entries" VALUES(17,'t','customer:c','credits',-50);
INSERT INTO "ledger_entries" VALUES(18,'t','house:used','credits',50);
INSERT INTO "ledger_entries" VALUES(19,'rf_01a218b6856316b259b4a22763-credit','house:used','credits',-20);
INSERT INTO "ledger_entries" VALUES(20,'rf_01a218b6856316b259b4a22763-credit','customer:c','credits',20);
INSERT INTO "ledger_entries" VALUES(21,'rf_01a218b6858116b32976121539-withdrawal','customer:c','credits',-100);
INSERT INTO "ledger_entries" VALUES(22,'rf_01a218b6858116b32976121539-withdrawal','house:clearing','credits',100);
INSERT INTO "ledger_entries" VALUES(23,'rf_01a218b6858116b32976121539-payout-1-re_1','house:clearing','credits',-100);
INSERT INTO "ledger_entries" VALUES(24,'rf_01a218b6858116b32976121539-payout-1-re_1','house:redeemed','credits',100);
INSERT INTO "ledger_entries" VALUES(25,'rf_01a218b6858116b32976121539-payout-1-re_1','processor:stripe','USD',-1000);
INSERT INTO "ledger_entries" VALUES(26,'rf_01a218b6858116b32976121539-payout-1-re_1','house:refunds','USD',1000);
INSERT INTO "ledger_entries" VALUES(27,'rf_01a218b6865716b6f9dceb6ea9-withdrawal','customer:c','credits',-100);
INSERT INTO "ledger_entries" VALUES(28,'rf_01a218b6865716b6f9dceb6ea9-withdrawal','house:clearing','credits',100);
INSERT INTO "ledger_entries" VALUES(29,'rf_01a218b686a216b99c8f3bf986-withdrawal','customer:c','credits',-101);
INSERT INTO "ledger_entries" VALUES(30,'rf_01a218b686a216b99c8f3bf986-withdrawal','house:clearing','credits',101);
INSERT INTO "ledger_entries" VALUES(31,'rf_01a218b686a216b99c8f3bf986-payout-2-nothing-0','house:clearing','credits',-1);
INSERT INTO "ledger_entries" VALUES(32,'rf_01a218b686a216b99c8f3bf986-payout-2-nothing-0','house:redeemed','credits',1);
INSERT INTO "ledger_entries" VALUES(33,'rf_01a218b686a216b99c8f3bf986-payout_reversal-2-nothing-0','house:clearing','credits',1);
INSERT INTO "ledger_entries" VALUES(34,'rf_01a218b686a216b99c8f3bf986-payout_reversal-2-nothing-0','house:redeemed','credits',-1);
INSERT INTO "ledger_entries" VALUES(35,'rf_01a218b686a216b99c8f3bf986-reversal-1','house:clearing','credits',-101);
INSERT INTO "ledger_entries" VALUES(36,'rf_01a218b686a216b99c8f3bf986-reversal-1','customer:c','credits',101);
INSERT INTO "ledger_entries" VALUES(37,'rf_01a218b686a216b99c8f3bf986-taken-again-1-1','customer:c','credits',-100);
INSERT INTO "ledger_entries" VALUES(38,'rf_01a218b686a216b99c8f3bf986-taken-again-1-1','house:clearing','credits',100);
INSERT INTO "ledger_entries" VALUES(39,'rf_01a218b686a216b99c8f3bf986-taken-again-1-2','customer:c','credits',-1);
INSERT INTO "ledger_entries" VALUES(40,'rf_01a218b686a216b99c8f3bf986-taken-again-1-2','house:clearing','credits',1);
INSERT INTO "ledger_entries" VALUES(41,'rf_01a218b686a216b99c8f3bf986-payout-1-re_by_hand_3','house:clearing','credits',-100);
INSERT INTO "ledger_entries" VALUES(42,'rf_01a218b686a216b99c8f3bf986-payout-1-re_by_hand_3','house:redeemed','credits',100);
INSERT INTO "ledger_entries" VALUES(43,'rf_01a218b686a216b99c8f3bf986-payout-1-re_by_hand_3','processor:stripe','USD',-1000);
INSERT INTO "ledger_entries" VALUES(44,'rf_01a218b686a216b99c8f3bf986-payout-1-re_by_hand_3','house:refunds','USD',1000);
INSERT INTO "ledger_entries" VALUES(45,'rf_01a218b686a216b99c8f3bf986-payout-2-nothing-1','house:clearing','credits',-1);
INSERT INTO "ledger_entries" VALUES(46,'rf_01a218b686a216b99c8f3bf986-payout-2-nothing-1','house:redeemed','credits',1);
INSERT INTO "ledger_entries" VALUES(47,'purchase-pay7','house:issued','credits',-100);
INSERT INTO "ledger_entries" VALUES(48,'purchase-pay7','customer:c','credits',100);
INSERT INTO "ledger_entries" VALUES(49,'purchase-pay7','house:sales','USD',-1000);
INSERT INTO "ledger_entries" VALUES(50,'purchase-pay7','processor:stripe','USD',1000);
INSERT INTO "ledger_entries" VALUES(51,'rf_01a218b686fa16c0effc6c6ec7-withdrawal','customer:c','credits',-100);
INSERT INTO "ledger_entries" VALUES(52,'rf_01a218b686fa16c0effc6c6ec7-withdrawal','house:clearing','credits',100);
INSERT INTO "ledger_entries" VALUES(53,'purchase-pay6','house:issued','credits',-100);
INSERT INTO "ledger_entries" VALUES(54,'purchase-pay6','customer:c','credits',100);
INSERT INTO "ledger_entries" VALUES(55,'purchase-pay6','house:sales','USD',-1000);
INSERT INTO "ledger_entries" VALUES(56,'purchase-pay6','processor:stripe','USD',1000);
CREATE TABLE ledger_transactions (
	seq INTEGER NOT NULL, 
	transaction_id TEXT NOT NULL, 
	customer_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	credits BIGINT NOT NULL, 
	refers_to TEXT, 
	refund_id TEXT, 
	description TEXT DEFAULT '' NOT NULL, 
	occurred_at DOUBLE NOT NULL, 
	actor TEXT NOT NULL, salt TEXT, 
	CONSTRAINT pk_ledger_transactions PRIMARY KEY (seq), 
	CONSTRAINT fk_ledger_transactions_customer_id FOREIGN KEY(customer_id) REFERENCES customers (customer_id), 
	CONSTRAINT uq_ledger_transactions_transaction_id UNIQUE (transaction_id)
);
INSERT INTO "ledger_transactions" VALUES(1,'purchase-pay1','c','purchase',100,'pay1',NULL,'Purchase of 100 credits',1.0,'system','fdb29b78026e021a50cd3434d8c6618a');
INSERT INTO "ledger_transactions" VALUES(2,'purchase-pay3','c','purchase',100,'pay3',NULL,'Purchase of 100 credits',3.0,'system','d392f1a01ebefb923ae36cb048ebc7dd');
INSERT INTO "ledger_transactions" VALUES(3,'purchase-pay4','c','purchase',100,'pay4',NULL,'Purchase of 100 credits',4.0,'system','1c386d2a2dd7cb818cabfe5e6647664f');
INSERT INTO "ledger_transactions" VALUES(4,'purchase-pay5','c','purchase',100,'pay5',NULL,'Purchase of 100 credits',5.0,'system','7ef8e58274317c760066f28781cce51d');
INSERT INTO "ledger_transactions" VALUES(5,'t','c','spend',-50,NULL,NULL,'Chat',5.0,'system','bf48ffc46a9bf101ed1402d94e0d0857');
INSERT INTO "ledger_transactions" VALUES(6,'rf_01a218b6856316b259b4a22763-credit','c','credit_refund',20,'t','rf_01a218b6856316b259b4a22763','Refund of 20 credits for transaction t: asked',1800000000.0,'refund-worker','f8ce4ee239974e506c778d12e7ee6a94');
INSERT INTO "ledger_transactions" VALUES(7,'rf_01a218b6858116b32976121539-withdrawal','c','withdrawal',-100,NULL,'rf_01a218b6858116b32976121539','Withdrawal of 100 credits, to be paid back through the paying system: asked',1800000000.0,'refund-worker','474df0d9b2df79b9f2d419bf206527c5');
INSERT INTO "ledger_transactions" VALUES(8,'rf_01a218b6858116b32976121539-payout-1-re_1','c','payout',0,'rf_01a218b6858116b32976121539-1','rf_01a218b6858116b32976121539','10.00 USD paid: re_1',1800000000.0,'processor','218c943f575fce934abb52b24f15ffab');
INSERT INTO "ledger_transactions" VALUES(9,'rf_01a218b6865716b6f9dceb6ea9-withdrawal','c','withdrawal',-100,NULL,'rf_01a218b6865716b6f9dceb6ea9','Withdrawal of 100 credits, to be paid back through the paying system: asked',1800001000.0,'refund-worker','03d3c2420811392d25969f0bf2d67845');
INSERT INTO "ledger_transactions" VALUES(10,'rf_01a218b686a216b99c8f3bf986-withdrawal','c','withdrawal',-101,NULL,'rf_01a218b686a216b99c8f3bf986','Withdrawal of 101 credits, to be paid back through the paying system: asked',1800001000.0,'refund-worker','a83faccfdc19424cc7fb0f1660f25b28');
INSERT INTO "ledger_transactions" VALUES(11,'rf_01a218b686a216b99c8f3bf986-payout-2-nothing-0','c','payout',0,'rf_01a218b686a216b99c8f3bf986-2','rf_01a218b686a216b99c8f3bf986','0.00 USD paid: nothing',1800001000.0,'refund-worker','2dc9c7eb333c40d2a4f7ebf406f74a7e');
INSERT INTO "ledger_transactions" VALUES(12,'rf_01a218b686a216b99c8f3bf986-payout_reversal-2-nothing-0','c','payout_reversal',0,'rf_01a218b686a216b99c8f3bf986-2','rf_01a218b686a216b99c8f3bf986','0.00 USD came back: nothing',1800001000.0,'refund-worker','0641a40d7996ae83a7c2ac2c8784312b');
INSERT INTO "ledger_transactions" VALUES(13,'rf_01a218b686a216b99c8f3bf986-reversal-1','c','reversal',101,'rf_01a218b686a216b99c8f3bf986-withdrawal','rf_01a218b686a216b99c8f3bf986','Reversal of rf_01a218b686a216b99c8f3bf986-withdrawal: 101 credits given back, the money did not arrive',1800001000.0,'refund-worker','8a49b4e942dd72e998cd7792ce511d72');
INSERT INTO "ledger_transactions" VALUES(14,'rf_01a218b686a216b99c8f3bf986-taken-again-1-1','c','correction',-100,'rf_01a218b686a216b99c8f3bf986-reversal-1','rf_01a218b686a216b99c8f3bf986','Correction of 100 credits: the money did go out after all',1800001060.0,'processor','a3a63a6f9575b7a74adbbcdd10d41715');
INSERT INTO "ledger_transactions" VALUES(15,'rf_01a218b686a216b99c8f3bf986-taken-again-1-2','c','correction',-1,'rf_01a218b686a216b99c8f3bf986-reversal-1','rf_01a218b686a216b99c8f3bf986','Correction of 1 credits: the money did go out after all',1800001060.0,'processor','2fb7fbef85c9090419d6c223ef4b9a59');
INSERT INTO "ledger_transactions" VALUES(16,'rf_01a218b686a216b99c8f3bf986-payout-1-re_by_hand_3','c','payout',0,'rf_01a218b686a216b99c8f3bf986-1','rf_01a218b686a216b99c8f3bf986','10.00 USD paid: re_by_hand_3',1800001060.0,'processor','b374de4f4aecf329e1ec82bdcc1ea3a0');
INSERT INTO "ledger_transactions" VALUES(17,'rf_01a218b686a216b99c8f3bf986-payout-2-nothing-1','c','payout',0,'rf_01a218b686a216b99c8f3bf986-2','rf_01a218b686a216b99c8f3bf986','0.00 USD paid: nothing',1800001060.0,'processor','182bfde7d1351f9e00363558f2822f9f');
INSERT INTO "ledger_transactions" VALUES(18,'purchase-pay7','c','purchase',100,'pay7',NULL,'Purchase of 100 credits',7.0,'system','f4bd35755c4219288475cd73a0380020');
INSERT INTO "ledger_transactions" VALUES(19,'rf_01a218b686fa16c0effc6c6ec7-withdrawal','c','withdrawal',-100,NULL,'rf_01a218b686fa16c0effc6c6ec7','Withdrawal of 100 credits, to be paid back through the paying system: asked',1800001060.0,'refund-worker','c1e73b5d4ac9318a503693699c4449b6');
INSERT INTO "ledger_transactions" VALUES(20,'purchase-pay6','c','purchase',100,'pay6',NULL,'Purchase of 100 credits',6.0,'system','4178c1d4436aa7872a3e815799b6e1c5');
CREATE TABLE legs (
	leg_id TEXT NOT NULL, 
	refund_id TEXT NOT NULL, 
	payment_id TEXT NOT NULL, 
	processor TEXT NOT NULL, 
	processor_payment_id TEXT NOT NULL, 
	amount_minor BIGINT NOT NULL, 
	currency TEXT NOT NULL, 
	credits BIGINT NOT NULL, 
	payment_credits BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	sends INTEGER DEFAULT '0' NOT NULL, 
	backoffs INTEGER DEFAULT '0' NOT NULL, 
	first_sent_at DOUBLE, 
	last_sent_at DOUBLE, 
	doubtful BOOLEAN DEFAULT false NOT NULL, 
	look_first BOOLEAN DEFAULT false NOT NULL, 
	verdict TEXT, 
	failure_code TEXT, 
	failure_message TEXT, 
	attention TEXT, 
	processor_refund_id TEXT, 
	settled BOOLEAN DEFAULT false NOT NULL, 
	returned_credits BIGINT DEFAULT '0' NOT NULL, 
	replaces TEXT, 
	next_at DOUBLE, first_intent_at DOUBLE, looked_at DOUBLE, held BOOLEAN DEFAULT false NOT NULL, blocked_by TEXT DEFAULT '[]' NOT NULL, seen_elsewhere TEXT DEFAULT '[]' NOT NULL, unreturnable_minor BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_legs PRIMARY KEY (leg_id), 
	CONSTRAINT ck_legs_amounts CHECK (amount_minor >= 0 AND credits >= 0 AND payment_credits >= 0), 
	CONSTRAINT fk_legs_payment_id FOREIGN KEY(payment_id) REFERENCES payments (payment_id), 
	CONSTRAINT fk_legs_refund_id FOREIGN KEY(refund_id) REFERENCES refunds (refund_id)
);
INSERT INTO "legs" VALUES('rf_01a218b6858116b32976121539-1','rf_01a218b6858116b32976121539','pay5','stripe','ch_5',1000,'USD',100,100,'succeeded',1,1,0,1800000000.0,1800000000.0,0,0,NULL,NULL,NULL,NULL,'re_1',0,0,NULL,NULL,1800000000.0,NULL,0,'[]','[]',0);
INSERT INTO "legs" VALUES('rf_01a218b6865716b6f9dceb6ea9-1','rf_01a218b6865716b6f9dceb6ea9','pay4','stripe','ch_4',1000,'USD',100,100,'pending',1,1,0,1800001000.0,1800001000.0,0,0,NULL,NULL,NULL,NULL,'re_2',0,0,NULL,1800001100.0,1800001000.0,NULL,0,'[]','[]',0);
INSERT INTO "legs" VALUES('rf_01a218b686a216b99c8f3bf986-1','rf_01a218b686a216b99c8f3bf986','pay3','stripe','ch_3',1000,'USD',100,100,'succeeded',1,1,0,1800001000.0,1800001000.0,0,0,NULL,NULL,NULL,NULL,'re_by_hand_3',0,0,NULL,NULL,1800001000.0,NULL,0,'[]','[]',0);
INSERT INTO "legs" VALUES('rf_01a218b686a216b99c8f3bf986-2','rf_01a218b686a216b99c8f3bf986','pay1','stripe','ch_1',0,'USD',1,1,'succeeded',1,0,1,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,0,'[]','[]',0);
INSERT INTO "legs" VALUES('rf_01a218b686a216b99c8f3bf986-3','rf_01a218b686a216b99c8f3bf986','pay1','stripe','ch_1',1,'USD',0,49,'failed',1,1,0,1800001000.0,1800001000.0,0,0,NULL,'declined','no',NULL,NULL,1,0,'rf_01a218b686a216b99c8f3bf986-1',NULL,1800001000.0,NULL,0,'[]','[]',0);
INSERT INTO "legs" VALUES('rf_01a218b686fa16c0effc6c6ec7-1','rf_01a218b686fa16c0effc6c6ec7','pay7','stripe','ch_7',1000,'USD',100,100,'unknown',1,1,1,1800001060.0,1800001060.0,1,0,NULL,NULL,'timeout',NULL,NULL,0,0,NULL,1800001061.958,1800001060.0,NULL,0,'[]','[]',0);
INSERT INTO "legs" VALUES('rf_01a218b6872a16c3e32c9f48f0-1','rf_01a218b6872a16c3e32c9f48f0','pay6','stripe','ch_6',50,'USD',5,5,'planned',1,0,0,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,0,'[]','[]',0);
CREATE TABLE outbox (
	message_id TEXT NOT NULL, 
	refund_id TEXT NOT NULL, 
	type TEXT NOT NULL, 
	body TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	tries INTEGER DEFAULT '0' NOT NULL, 
	next_at DOUBLE, 
	delivered_at DOUBLE, 
	given_up_at DOUBLE, 
	last_error TEXT, 
	CONSTRAINT pk_outbox PRIMARY KEY (message_id), 
	CONSTRAINT fk_outbox_refund_id FOREIGN KEY(refund_id) REFERENCES refunds (refund_id)
);
CREATE TABLE payments (
	payment_id TEXT NOT NULL, 
	customer_id TEXT NOT NULL, 
	processor TEXT NOT NULL, 
	processor_payment_id TEXT NOT NULL, 
	amount_minor BIGINT NOT NULL, 
	currency TEXT NOT NULL, 
	credits BIGINT NOT NULL, 
	captured_at DOUBLE NOT NULL, 
	credits_taken BIGINT DEFAULT '0' NOT NULL, 
	money_taken BIGINT DEFAULT '0' NOT NULL, 
	created_at DOUBLE NOT NULL, refunded_elsewhere BOOLEAN DEFAULT false NOT NULL, captured_minor BIGINT, word TEXT, word_captured BIGINT, word_currency TEXT, word_live BOOLEAN, word_disputed BOOLEAN, word_refunded BIGINT, word_read_at DOUBLE, refunded_minor BIGINT DEFAULT '0' NOT NULL, word_outside BIGINT DEFAULT '0' NOT NULL, word_seen BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_payments PRIMARY KEY (payment_id), 
	CONSTRAINT ck_payments_positive CHECK (amount_minor > 0 AND credits > 0), 
	CONSTRAINT ck_payments_credits_room CHECK (credits_taken >= 0 AND credits_taken <= credits), 
	CONSTRAINT ck_payments_money_room CHECK (money_taken >= 0 AND money_taken <= amount_minor), 
	CONSTRAINT fk_payments_customer_id FOREIGN KEY(customer_id) REFERENCES customers (customer_id), 
	CONSTRAINT uq_payments_processor_processor_payment_id UNIQUE (processor, processor_payment_id)
);
INSERT INTO "payments" VALUES('pay1','c','stripe','ch_1',1,'USD',100,1.0,1,0,1800000000.0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0);
INSERT INTO "payments" VALUES('pay3','c','stripe','ch_3',1000,'USD',100,3.0,100,1000,1800000000.0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0);
INSERT INTO "payments" VALUES('pay4','c','stripe','ch_4',1000,'USD',100,4.0,100,1000,1800000000.0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0);
INSERT INTO "payments" VALUES('pay5','c','stripe','ch_5',1000,'USD',100,5.0,100,1000,1800000000.0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0);
INSERT INTO "payments" VALUES('pay7','c','stripe','ch_7',1000,'USD',100,7.0,100,1000,1800001060.0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0);
INSERT INTO "payments" VALUES('pay6','c','stripe','ch_6',1000,'USD',100,6.0,5,50,1800001060.0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0);
CREATE TABLE person_links (
	console_user TEXT NOT NULL, 
	identity TEXT NOT NULL, 
	linked_at DOUBLE NOT NULL, 
	linked_by TEXT NOT NULL, 
	CONSTRAINT pk_person_links PRIMARY KEY (console_user, identity)
);
CREATE TABLE processors (
	name TEXT NOT NULL, 
	paused_by TEXT, 
	paused_at DOUBLE, 
	paused_until DOUBLE, 
	code TEXT, 
	reason TEXT, 
	looked_at DOUBLE, 
	told_until DOUBLE, 
	CONSTRAINT pk_processors PRIMARY KEY (name)
);
CREATE TABLE refund_batch_rows (
	batch_id TEXT NOT NULL, 
	"row" INTEGER NOT NULL, 
	refund_id TEXT, 
	replayed BOOLEAN DEFAULT false NOT NULL, 
	code TEXT, 
	message TEXT, 
	CONSTRAINT pk_refund_batch_rows PRIMARY KEY (batch_id, "row"), 
	CONSTRAINT fk_refund_batch_rows_batch_id FOREIGN KEY(batch_id) REFERENCES refund_batches (batch_id)
);
CREATE TABLE refund_batches (
	batch_id TEXT NOT NULL, 
	client TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	body_sha256 TEXT, 
	status TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	CONSTRAINT pk_refund_batches PRIMARY KEY (batch_id)
);
CREATE TABLE refund_objects (
	processor TEXT NOT NULL, 
	processor_refund_id TEXT NOT NULL, 
	leg_id TEXT NOT NULL, 
	attempt INTEGER, 
	state TEXT, 
	status TEXT, 
	amount_minor BIGINT NOT NULL, 
	currency TEXT NOT NULL, 
	failure_code TEXT, 
	created_at DOUBLE NOT NULL, 
	seen_at DOUBLE NOT NULL, 
	CONSTRAINT pk_refund_objects PRIMARY KEY (processor, processor_refund_id), 
	CONSTRAINT fk_refund_objects_leg_id FOREIGN KEY(leg_id) REFERENCES legs (leg_id)
);
INSERT INTO "refund_objects" VALUES('stripe','re_1','rf_01a218b6858116b32976121539-1',1,'succeeded','succeeded',1000,'USD',NULL,1800000000.0,1800000000.0);
INSERT INTO "refund_objects" VALUES('stripe','re_2','rf_01a218b6865716b6f9dceb6ea9-1',1,'pending','pending',1000,'USD',NULL,1800000000.0,1800001000.0);
INSERT INTO "refund_objects" VALUES('stripe','re_by_hand_3','rf_01a218b686a216b99c8f3bf986-1',1,'succeeded','succeeded',1000,'USD',NULL,1800001010.0,1800001060.0);
CREATE TABLE refunds (
	refund_id TEXT NOT NULL, 
	client TEXT NOT NULL, 
	idempotency_key TEXT NOT NULL, 
	body TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	"to" TEXT NOT NULL, 
	customer_id TEXT NOT NULL, 
	transaction_id TEXT, 
	credits BIGINT NOT NULL, 
	currency TEXT, 
	reason TEXT NOT NULL, 
	note TEXT, 
	metadata TEXT DEFAULT '{}' NOT NULL, 
	status TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	created_at DOUBLE NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	requested_by TEXT NOT NULL, 
	of_correction BOOLEAN DEFAULT false NOT NULL, 
	posted BOOLEAN DEFAULT false NOT NULL, 
	returns INTEGER DEFAULT '0' NOT NULL, 
	returned_credits BIGINT DEFAULT '0' NOT NULL, 
	failure_code TEXT, 
	failure_message TEXT, 
	priority INTEGER DEFAULT '0' NOT NULL, 
	due_at DOUBLE, 
	lease_until DOUBLE, 
	lease_token TEXT, requested_by_note TEXT, 
	CONSTRAINT pk_refunds PRIMARY KEY (refund_id), 
	CONSTRAINT ck_refunds_credits CHECK (credits > 0), 
	CONSTRAINT ck_refunds_returned CHECK (returned_credits >= 0 AND returned_credits <= credits), 
	CONSTRAINT fk_refunds_customer_id FOREIGN KEY(customer_id) REFERENCES customers (customer_id), 
	CONSTRAINT uq_refunds_idempotency_key_client UNIQUE (idempotency_key, client)
);
INSERT INTO "refunds" VALUES('rf_01a218b6856316b259b4a22763','default','to-balance','{"credits": 20, "currency": null, "customer_id": "c", "kind": "credit_refund", "metadata": {}, "note": null, "reason": "asked", "to": "balance", "transaction_id": "t"}','credit_refund','balance','c','t',20,NULL,'asked',NULL,'{}','succeeded',2,1800000000.0,1800000000.0,'unknown',0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO "refunds" VALUES('rf_01a218b6858116b32976121539','default','paid','{"credits": 100, "currency": null, "customer_id": "c", "kind": "withdrawal", "metadata": {}, "note": null, "reason": "asked", "to": "source", "transaction_id": null}','withdrawal','source','c',NULL,100,NULL,'asked',NULL,'{}','succeeded',3,1800000000.0,1800000000.0,'unknown',0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO "refunds" VALUES('rf_01a218b6865716b6f9dceb6ea9','default','pending','{"credits": 100, "currency": null, "customer_id": "c", "kind": "withdrawal", "metadata": {}, "note": null, "reason": "asked", "to": "source", "transaction_id": null}','withdrawal','source','c',NULL,100,NULL,'asked',NULL,'{}','pending',3,1800001000.0,1800001000.0,'unknown',0,1,0,0,NULL,NULL,0,1800001100.0,NULL,NULL,NULL);
INSERT INTO "refunds" VALUES('rf_01a218b686a216b99c8f3bf986','default','zero','{"credits": 101, "currency": null, "customer_id": "c", "kind": "withdrawal", "metadata": {}, "note": null, "reason": "asked", "to": "source", "transaction_id": null}','withdrawal','source','c',NULL,101,NULL,'asked',NULL,'{}','succeeded',8,1800001000.0,1800001060.0,'unknown',0,1,1,0,NULL,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO "refunds" VALUES('rf_01a218b686fa16c0effc6c6ec7','default','unanswered','{"credits": 100, "currency": null, "customer_id": "c", "kind": "withdrawal", "metadata": {}, "note": null, "reason": "asked", "to": "source", "transaction_id": null}','withdrawal','source','c',NULL,100,NULL,'asked',NULL,'{}','sending',3,1800001060.0,1800001060.0,'unknown',0,1,0,0,NULL,NULL,0,1800001061.958,NULL,NULL,NULL);
INSERT INTO "refunds" VALUES('rf_01a218b6872a16c3e32c9f48f0','default','queued','{"credits": 5, "currency": null, "customer_id": "c", "kind": "withdrawal", "metadata": {}, "note": null, "reason": "asked", "to": "source", "transaction_id": null}','withdrawal','source','c',NULL,5,NULL,'asked',NULL,'{}','queued',1,1800001060.0,1800001060.0,'unknown',0,0,0,0,NULL,NULL,0,1800001060.0,NULL,NULL,NULL);
CREATE TABLE refused_requests (
	seq INTEGER NOT NULL, 
	door TEXT NOT NULL, 
	client TEXT NOT NULL, 
	idempotency_key TEXT NOT NULL, 
	code TEXT NOT NULL, 
	message TEXT NOT NULL, 
	body TEXT NOT NULL, 
	first_at DOUBLE NOT NULL, 
	at DOUBLE NOT NULL, 
	times INTEGER NOT NULL, 
	CONSTRAINT pk_refused_requests PRIMARY KEY (seq), 
	CONSTRAINT uq_refused_requests_door_client_idempotency_key_code UNIQUE (door, client, idempotency_key, code)
);
CREATE TABLE repeated_requests (
	day BIGINT NOT NULL, 
	customer_id TEXT NOT NULL, 
	times INTEGER NOT NULL, 
	CONSTRAINT pk_repeated_requests PRIMARY KEY (day, customer_id), 
	CONSTRAINT fk_repeated_requests_customer_id FOREIGN KEY(customer_id) REFERENCES customers (customer_id)
);
CREATE TABLE snapshots (
	seq INTEGER NOT NULL, 
	table_name TEXT NOT NULL, 
	row_id TEXT NOT NULL, 
	form INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	CONSTRAINT pk_snapshots PRIMARY KEY (seq)
);
INSERT INTO "snapshots" VALUES(1,'payments','pay1',1,'["c","stripe","ch_1",1,"USD",100,1.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(2,'payments','pay3',1,'["c","stripe","ch_3",1000,"USD",100,3.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(3,'payments','pay4',1,'["c","stripe","ch_4",1000,"USD",100,4.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(4,'payments','pay5',1,'["c","stripe","ch_5",1000,"USD",100,5.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(5,'refunds','rf_01a218b6856316b259b4a22763',1,'["default","to-balance","credit_refund","balance","c","t",20,null,"unknown",false,false,0]');
INSERT INTO "snapshots" VALUES(6,'refunds','rf_01a218b6858116b32976121539',1,'["default","paid","withdrawal","source","c",null,100,null,"unknown",false,false,0]');
INSERT INTO "snapshots" VALUES(7,'legs','rf_01a218b6858116b32976121539-1',1,'["rf_01a218b6858116b32976121539","pay5","stripe","ch_5",1000,"USD",100,100,0]');
INSERT INTO "snapshots" VALUES(8,'payments','pay5',1,'["c","stripe","ch_5",1000,"USD",100,5,100,1000,null,0]');
INSERT INTO "snapshots" VALUES(9,'refunds','rf_01a218b6856316b259b4a22763',1,'["default","to-balance","credit_refund","balance","c","t",20,null,"unknown",false,true,0]');
INSERT INTO "snapshots" VALUES(10,'refunds','rf_01a218b6858116b32976121539',1,'["default","paid","withdrawal","source","c",null,100,null,"unknown",false,true,0]');
INSERT INTO "snapshots" VALUES(11,'refunds','rf_01a218b6865716b6f9dceb6ea9',1,'["default","pending","withdrawal","source","c",null,100,null,"unknown",false,false,0]');
INSERT INTO "snapshots" VALUES(12,'legs','rf_01a218b6865716b6f9dceb6ea9-1',1,'["rf_01a218b6865716b6f9dceb6ea9","pay4","stripe","ch_4",1000,"USD",100,100,0]');
INSERT INTO "snapshots" VALUES(13,'payments','pay4',1,'["c","stripe","ch_4",1000,"USD",100,4,100,1000,null,0]');
INSERT INTO "snapshots" VALUES(14,'refunds','rf_01a218b6865716b6f9dceb6ea9',1,'["default","pending","withdrawal","source","c",null,100,null,"unknown",false,true,0]');
INSERT INTO "snapshots" VALUES(15,'refunds','rf_01a218b686a216b99c8f3bf986',1,'["default","zero","withdrawal","source","c",null,101,null,"unknown",false,false,0]');
INSERT INTO "snapshots" VALUES(16,'legs','rf_01a218b686a216b99c8f3bf986-1',1,'["rf_01a218b686a216b99c8f3bf986","pay3","stripe","ch_3",1000,"USD",100,100,0]');
INSERT INTO "snapshots" VALUES(17,'legs','rf_01a218b686a216b99c8f3bf986-2',1,'["rf_01a218b686a216b99c8f3bf986","pay1","stripe","ch_1",0,"USD",1,1,0]');
INSERT INTO "snapshots" VALUES(18,'payments','pay1',1,'["c","stripe","ch_1",1,"USD",100,1.0,1,0,null,0]');
INSERT INTO "snapshots" VALUES(19,'payments','pay3',1,'["c","stripe","ch_3",1000,"USD",100,3.0,100,1000,null,0]');
INSERT INTO "snapshots" VALUES(20,'refunds','rf_01a218b686a216b99c8f3bf986',1,'["default","zero","withdrawal","source","c",null,101,null,"unknown",false,true,0]');
INSERT INTO "snapshots" VALUES(21,'payments','pay3',1,'["c","stripe","ch_3",1000,"USD",100,3.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(22,'legs','rf_01a218b686a216b99c8f3bf986-1',1,'["rf_01a218b686a216b99c8f3bf986","pay3","stripe","ch_3",1000,"USD",100,100,100]');
INSERT INTO "snapshots" VALUES(23,'legs','rf_01a218b686a216b99c8f3bf986-3',1,'["rf_01a218b686a216b99c8f3bf986","pay1","stripe","ch_1",1,"USD",0,49,0]');
INSERT INTO "snapshots" VALUES(24,'payments','pay1',1,'["c","stripe","ch_1",1,"USD",100,1,50,1,null,0]');
INSERT INTO "snapshots" VALUES(25,'payments','pay1',1,'["c","stripe","ch_1",1,"USD",100,1.0,1,0,null,0]');
INSERT INTO "snapshots" VALUES(26,'legs','rf_01a218b686a216b99c8f3bf986-2',1,'["rf_01a218b686a216b99c8f3bf986","pay1","stripe","ch_1",0,"USD",1,1,1]');
INSERT INTO "snapshots" VALUES(27,'payments','pay1',1,'["c","stripe","ch_1",1,"USD",100,1.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(28,'refunds','rf_01a218b686a216b99c8f3bf986',1,'["default","zero","withdrawal","source","c",null,101,null,"unknown",false,true,101]');
INSERT INTO "snapshots" VALUES(29,'refunds','rf_01a218b686a216b99c8f3bf986',1,'["default","zero","withdrawal","source","c",null,101,null,"unknown",false,true,0]');
INSERT INTO "snapshots" VALUES(30,'legs','rf_01a218b686a216b99c8f3bf986-1',1,'["rf_01a218b686a216b99c8f3bf986","pay3","stripe","ch_3",1000,"USD",100,100,0]');
INSERT INTO "snapshots" VALUES(31,'legs','rf_01a218b686a216b99c8f3bf986-2',1,'["rf_01a218b686a216b99c8f3bf986","pay1","stripe","ch_1",0,"USD",1,1,0]');
INSERT INTO "snapshots" VALUES(32,'payments','pay1',1,'["c","stripe","ch_1",1,"USD",100,1.0,1,0,null,0]');
INSERT INTO "snapshots" VALUES(33,'payments','pay3',1,'["c","stripe","ch_3",1000,"USD",100,3.0,100,1000,null,0]');
INSERT INTO "snapshots" VALUES(34,'payments','pay7',1,'["c","stripe","ch_7",1000,"USD",100,7.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(35,'refunds','rf_01a218b686fa16c0effc6c6ec7',1,'["default","unanswered","withdrawal","source","c",null,100,null,"unknown",false,false,0]');
INSERT INTO "snapshots" VALUES(36,'legs','rf_01a218b686fa16c0effc6c6ec7-1',1,'["rf_01a218b686fa16c0effc6c6ec7","pay7","stripe","ch_7",1000,"USD",100,100,0]');
INSERT INTO "snapshots" VALUES(37,'payments','pay7',1,'["c","stripe","ch_7",1000,"USD",100,7,100,1000,null,0]');
INSERT INTO "snapshots" VALUES(38,'refunds','rf_01a218b686fa16c0effc6c6ec7',1,'["default","unanswered","withdrawal","source","c",null,100,null,"unknown",false,true,0]');
INSERT INTO "snapshots" VALUES(39,'payments','pay6',1,'["c","stripe","ch_6",1000,"USD",100,6.0,0,0,null,0]');
INSERT INTO "snapshots" VALUES(40,'refunds','rf_01a218b6872a16c3e32c9f48f0',1,'["default","queued","withdrawal","source","c",null,5,null,"unknown",false,false,0]');
INSERT INTO "snapshots" VALUES(41,'legs','rf_01a218b6872a16c3e32c9f48f0-1',1,'["rf_01a218b6872a16c3e32c9f48f0","pay6","stripe","ch_6",50,"USD",5,5,0]');
INSERT INTO "snapshots" VALUES(42,'payments','pay6',1,'["c","stripe","ch_6",1000,"USD",100,6,5,50,null,0]');
CREATE TABLE tallies (
	name TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	label TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	CONSTRAINT pk_tallies PRIMARY KEY (name, at, label)
);
CREATE TABLE transaction_rooms (
	transaction_id TEXT NOT NULL, 
	customer_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	credits BIGINT NOT NULL, 
	taken BIGINT DEFAULT '0' NOT NULL, 
	reversed BOOLEAN DEFAULT false NOT NULL, 
	CONSTRAINT pk_transaction_rooms PRIMARY KEY (transaction_id), 
	CONSTRAINT ck_transaction_rooms_room CHECK (taken >= 0 AND taken <= credits)
);
INSERT INTO "transaction_rooms" VALUES('t','c','spend',50,20,0);
CREATE INDEX ix_inbox_waiting ON inbox (received_at) WHERE taken_at IS NULL;
CREATE INDEX ix_inbox_received_at ON inbox (received_at);
CREATE INDEX ix_ledger_transactions_corrections ON ledger_transactions (customer_id, occurred_at, seq) WHERE kind = 'correction';
CREATE INDEX ix_ledger_transactions_customer ON ledger_transactions (customer_id, occurred_at, seq);
CREATE INDEX ix_ledger_transactions_refers_to ON ledger_transactions (refers_to) WHERE refers_to IS NOT NULL;
CREATE INDEX ix_payments_customer_id ON payments (customer_id);
CREATE INDEX ix_refunds_client ON refunds (client, status, refund_id);
CREATE INDEX ix_refunds_customer ON refunds (customer_id, refund_id);
CREATE INDEX ix_refunds_due ON refunds (priority, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_refunds_failure ON refunds (failure_code, refund_id) WHERE failure_code IS NOT NULL;
CREATE INDEX ix_refunds_requested_by ON refunds (requested_by, created_at);
CREATE INDEX ix_refunds_status ON refunds (status, refund_id);
CREATE INDEX ix_refunds_troubled ON refunds (status, refund_id, failure_code, updated_at) WHERE status IN ('needs_attention', 'failed');
CREATE INDEX ix_events_refund_id ON events (refund_id);
CREATE INDEX ix_ledger_entries_transaction_id ON ledger_entries (transaction_id);
CREATE INDEX ix_legs_in_flight ON legs (currency, refund_id, amount_minor) WHERE status NOT IN ('succeeded', 'failed', 'canceled');
CREATE INDEX ix_legs_payment_id ON legs (payment_id);
CREATE INDEX ix_legs_refund ON legs (refund_id, currency, replaces, amount_minor);
CREATE INDEX ix_refund_objects_leg_id ON refund_objects (leg_id);
CREATE UNIQUE INDEX ix_api_keys_live ON api_keys (client, name) WHERE revoked_at IS NULL;
CREATE INDEX ix_refund_batches_unfinished ON refund_batches (client, body_sha256) WHERE status = 'taking_in';
CREATE INDEX ix_console_sessions_name ON console_sessions (name);
CREATE INDEX ix_refused_requests_at ON refused_requests (at);
CREATE INDEX ix_outbox_refund_id ON outbox (refund_id);
CREATE INDEX ix_outbox_waiting ON outbox (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX ix_outbox_delivered ON outbox (delivered_at) WHERE delivered_at IS NOT NULL;
CREATE INDEX ix_outbox_given_up ON outbox (given_up_at) WHERE given_up_at IS NOT NULL;
CREATE INDEX ix_audit_seals_table ON audit_seals (table_name, last_seq);
CREATE TRIGGER ledger_transactions_no_delete BEFORE DELETE ON ledger_transactions BEGIN SELECT RAISE(ABORT, 'ledger_transactions is append-only'); END;
CREATE TRIGGER ledger_entries_no_update BEFORE UPDATE ON ledger_entries BEGIN SELECT RAISE(ABORT, 'ledger_entries is append-only'); END;
CREATE TRIGGER ledger_entries_no_delete BEFORE DELETE ON ledger_entries BEGIN SELECT RAISE(ABORT, 'ledger_entries is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
CREATE TRIGGER audit_seals_no_update BEFORE UPDATE ON audit_seals BEGIN SELECT RAISE(ABORT, 'audit_seals is append-only'); END;
CREATE TRIGGER audit_seals_no_delete BEFORE DELETE ON audit_seals BEGIN SELECT RAISE(ABORT, 'audit_seals is append-only'); END;
CREATE TRIGGER audit_checks_no_update BEFORE UPDATE ON audit_checks BEGIN SELECT RAISE(ABORT, 'audit_checks is append-only'); END;
CREATE TRIGGER audit_checks_no_delete BEFORE DELETE ON audit_checks BEGIN SELECT RAISE(ABORT, 'audit_checks is append-only'); END;
CREATE TRIGGER ledger_transactions_no_replace BEFORE INSERT ON ledger_transactions WHEN EXISTS (SELECT 1 FROM ledger_transactions WHERE seq = NEW.seq) OR EXISTS (SELECT 1 FROM ledger_transactions WHERE transaction_id = NEW.transaction_id) BEGIN SELECT RAISE(ABORT, 'ledger_transactions is append-only: this row is there already'); END;
CREATE TRIGGER ledger_entries_no_replace BEFORE INSERT ON ledger_entries WHEN EXISTS (SELECT 1 FROM ledger_entries WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'ledger_entries is append-only: this row is there already'); END;
CREATE TRIGGER events_no_replace BEFORE INSERT ON events WHEN EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'events is append-only: this row is there already'); END;
CREATE TRIGGER audit_seals_no_replace BEFORE INSERT ON audit_seals WHEN EXISTS (SELECT 1 FROM audit_seals WHERE seq = NEW.seq) OR EXISTS (SELECT 1 FROM audit_seals WHERE table_name = NEW.table_name AND first_seq = NEW.first_seq) OR EXISTS (SELECT 1 FROM audit_seals WHERE rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'audit_seals is append-only: this row is there already'); END;
CREATE TRIGGER audit_checks_no_replace BEFORE INSERT ON audit_checks WHEN EXISTS (SELECT 1 FROM audit_checks WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'audit_checks is append-only: this row is there already'); END;
CREATE INDEX ix_keyed_acts_result_id ON keyed_acts (result_id);
CREATE INDEX ix_snapshots_row ON snapshots (table_name, row_id, seq);
CREATE INDEX ix_erasures_row ON erasures (table_name, row_seq);
CREATE TRIGGER ledger_transactions_no_update BEFORE UPDATE ON ledger_transactions BEGIN SELECT RAISE(ABORT, 'ledger_transactions is append-only'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
CREATE TRIGGER snapshots_no_update BEFORE UPDATE ON snapshots BEGIN SELECT RAISE(ABORT, 'snapshots is append-only'); END;
CREATE TRIGGER snapshots_no_delete BEFORE DELETE ON snapshots BEGIN SELECT RAISE(ABORT, 'snapshots is append-only'); END;
CREATE TRIGGER snapshots_no_replace BEFORE INSERT ON snapshots WHEN EXISTS (SELECT 1 FROM snapshots WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'snapshots is append-only: this row is there already'); END;
CREATE TRIGGER erasures_no_update BEFORE UPDATE ON erasures BEGIN SELECT RAISE(ABORT, 'erasures is append-only'); END;
CREATE TRIGGER erasures_no_delete BEFORE DELETE ON erasures BEGIN SELECT RAISE(ABORT, 'erasures is append-only'); END;
CREATE TRIGGER erasures_no_replace BEFORE INSERT ON erasures WHEN EXISTS (SELECT 1 FROM erasures WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'erasures is append-only: this row is there already'); END;
CREATE TRIGGER ledger_transactions_number AFTER INSERT ON ledger_transactions WHEN NEW.seq <= 0 OR NEW.seq < (SELECT max(seq) FROM ledger_transactions) BEGIN SELECT RAISE(ABORT, 'ledger_transactions is append-only: its next row has the next number'); END;
CREATE TRIGGER ledger_entries_number AFTER INSERT ON ledger_entries WHEN NEW.seq <= 0 OR NEW.seq < (SELECT max(seq) FROM ledger_entries) BEGIN SELECT RAISE(ABORT, 'ledger_entries is append-only: its next row has the next number'); END;
CREATE TRIGGER events_number AFTER INSERT ON events WHEN NEW.seq <= 0 OR NEW.seq < (SELECT max(seq) FROM events) BEGIN SELECT RAISE(ABORT, 'events is append-only: its next row has the next number'); END;
CREATE TRIGGER audit_checks_number AFTER INSERT ON audit_checks WHEN NEW.seq <= 0 OR NEW.seq < (SELECT max(seq) FROM audit_checks) BEGIN SELECT RAISE(ABORT, 'audit_checks is append-only: its next row has the next number'); END;
CREATE TRIGGER snapshots_number AFTER INSERT ON snapshots WHEN NEW.seq <= 0 OR NEW.seq < (SELECT max(seq) FROM snapshots) BEGIN SELECT RAISE(ABORT, 'snapshots is append-only: its next row has the next number'); END;
CREATE TRIGGER erasures_number AFTER INSERT ON erasures WHEN NEW.seq <= 0 OR NEW.seq < (SELECT max(seq) FROM erasures) BEGIN SELECT RAISE(ABORT, 'erasures is append-only: its next row has the next number'); END;
CREATE TRIGGER audit_seals_number AFTER INSERT ON audit_seals WHEN NEW.seq <= 0 BEGIN SELECT RAISE(ABORT, 'audit_seals is append-only: the first seal is 1'); END;
COMMIT;
