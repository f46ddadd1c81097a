DROP INDEX unique_client_ref;
