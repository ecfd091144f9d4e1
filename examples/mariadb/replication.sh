#!/bin/sh
# Make this database a primary, or with $PRIMARY a replica of that one. Doing it twice changes nothing.
set -e
for _ in $(seq 150); do
  mariadb -e 'SELECT 1' >/dev/null 2>&1 && break
  sleep 0.2
done
if [ -z "$PRIMARY" ]; then
  mariadb <<SQL
CREATE USER IF NOT EXISTS replication@'10.79.0.%' IDENTIFIED BY '$REPLICATION_PASSWORD';
GRANT REPLICATION SLAVE ON *.* TO replication@'10.79.0.%';
CREATE DATABASE IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, item VARCHAR(100) NOT NULL);
SQL
  exit
fi
mariadb <<SQL
STOP SLAVE;
CHANGE MASTER TO MASTER_HOST='$PRIMARY', MASTER_USER='replication', MASTER_PASSWORD='$REPLICATION_PASSWORD',
  MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos;
START SLAVE;
SQL
