DROP TABLE storage_folder;
