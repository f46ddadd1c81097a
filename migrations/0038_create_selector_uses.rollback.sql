DROP TABLE selector_uses;
