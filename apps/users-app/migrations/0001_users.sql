CREATE TABLE users (
    id integer PRIMARY KEY,
    name text NOT NULL,
    age integer
);
CREATE INDEX users_name ON users (name);
INSERT INTO users (id, name, age) VALUES (1, 'admin', 10), (2, 'vasya', 20), (3, 'maria', 31);
